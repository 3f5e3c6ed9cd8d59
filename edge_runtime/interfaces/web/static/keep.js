// Keeping what was chosen in the picture, or photographed, in the catalogue, so that later questions use its name.
import { send } from "./api.js";
import { $, toast } from "./words.js";

const NO_NAME = /[/\\<>:"|?*]/; // a product is a folder

export class Keep {
  /** `question` has the chosen objects; its products are asked for again when there is a new one. */
  constructor(question, role) {
    this.question = question;
    this.role = role;
    $("keep-it").addEventListener("click", () => this.keep());
    $("keep-name").addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // it would ask the question
      this.keep();
    });
  }

  /** Shown while there is something to keep and somebody who may. */
  update() { $("keep").hidden = this.role() === "viewer" || !this.question.objects.some((one) => one.coded); }

  async keep() {
    const name = $("keep-name").value.trim();
    if (!name) { $("keep-name").focus(); return; }
    if (NO_NAME.test(name)) { toast("A name has none of / \\ < > : \" | ? *"); return; }
    const photos = await Promise.all(this.question.objects.map((one) => one.coded).filter(Boolean));
    try {
      await send("PUT", `/api/v1/catalogue/${encodeURIComponent(name)}`, { photos });
    } catch (error) {
      if (error.status !== 401) toast(error.message);
      return;
    }
    $("keep-name").value = "";
    await this.question.products();
    this.question.choose([{ product: name }]);
    toast(`${name} is in the catalogue.`);
  }
}
