"""The tokenizer: one token a word that worlds use, letters for everything else.

WordPiece over a fixed list: nothing is learned, so the same code always gives the same ids, and a word
that is not listed falls back to its letters. Append words at the end of `WORDS`; ids are stored in checkpoints.
"""

from __future__ import annotations

import string

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "</s>", "<unk>")
WORDS = """
white black brown grey gray red orange yellow green blue purple pink cyan magenta teal navy gold silver
dark light bright pale colour color colours colors coloured colored
square circle triangle diamond star cross ring hexagon pentagon rectangle ellipse heart arrow disc dot bar
line box cell tile block ball cube wall floor board grid room door key lock gate hole slot shelf shelves row
column corner edge middle centre center background foreground occluder screen curtain cover shadow marker
shape shapes object objects thing things piece pieces item items figure pattern sequence mark symbol player
left right up down top bottom north south east west above below over under behind before after between
around through along across inside outside near far next beside onto into toward towards from to in on at of
off out back away forward again
a an the this that these those it its they their one ones which who what where when while until then and or
but not no only all any each every other another same different both either neither
is are was be becomes become has have had can must should may will does do
walk walks walker moves move moved moving go goes going reach reaches find finds solve solves mark marks
marked leave leaves leaving draw draws drawing drawn grow grows turn turns turned rotate rotates rotated
slide slides push pushes pull pulls roll rolls bounce bounces hit hits strike strikes collide collides
collision chain fall falls drop drops lift lifts put puts place places placed take takes pick picks carry
carries open opens close closes unlock unlocks pass passes disappear disappears appear appears reappear
reappears hide hides hidden show shows return returns stay stays stop stops start starts end ends begin
begins follow follows continue continues complete completes fill fills match matches matching sort sorts
sorted order swap swaps exchange arrange arranges win wins play plays select selects choose chooses point
points grows shrink shrinks keep keeps make makes
maze path way trail route detour obstacle goal target start finish track walk board game tic tac toe
noughts crosses x o turn line three shortest cheapest cost weight weighted puzzle sliding key
zero one two three four five six seven eight nine ten eleven twelve first second third fourth fifth last
once twice half quarter full empty
small smaller smallest big bigger biggest large larger largest short shorter shortest long longer longest
tall taller tallest size sizes length height width heavy heaviest fast slow quickly slowly equal free valid
horizontal vertical clockwise counterclockwise degrees angle direction upright
behind video frame scene picture image blank with without by for as so if than there here now
shown dots squares circles triangles diamonds stars rings bars hearts hexagons pentagons cells tiles blocks balls
boxes keys doors rooms walls lines sides corners edges frames
""".split()
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"


def vocabulary() -> dict[str, int]:
    """Token → id: special tokens, letters (also as continuation), punctuation, then `WORDS`."""
    letters = string.ascii_lowercase + string.digits
    tokens = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *PUNCTUATION, *WORDS]
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def build(max_length: int) -> PreTrainedTokenizerFast:
    """The tokenizer, which ends every prompt with `</s>` and cuts it at `max_length` tokens."""
    ids = vocabulary()
    inner = Tokenizer(models.WordPiece(ids, unk_token="<unk>", max_input_chars_per_word=64))
    inner.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()])
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", ids["</s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        padding_side="right",
        model_max_length=max_length,
    )
