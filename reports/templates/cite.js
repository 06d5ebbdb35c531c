// Copies the citations; where the browser does not let a page do that, it marks them for the reader to copy.
for (const button of document.querySelectorAll(".copy")) {
  const cite = button.closest(".cite"), text = cite.querySelector("code"), said = cite.querySelector(".copied");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      said.textContent = "Copied.";
    } catch {
      getSelection().selectAllChildren(text);
      said.textContent = "Marked: copy it with your keyboard.";
    }
  });
}
