// The products of the catalogue: found by typing, kept under a name, renamed and removed.
import { maybe, productPath, send } from "./api.js";
import { $, el, say, toast } from "./words.js";

const SHOWN = 50; // of many: who wants another types more of its name
const NO_NAME = /[/\\<>:"|?*]/; // a product is a folder

/** A text as it is compared: without case and accents. */
const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/** Tells "change" when others are known. */
export class Catalogue extends EventTarget {
  constructor() {
    super();
    this.products = []; // { name, photos, key }
    this.known = "";
  }

  /** Ask for the products, which others may change. */
  async load() {
    const catalogue = await maybe("api/v1/catalogue");
    const products = (catalogue && catalogue.products) || [];
    const known = JSON.stringify(products);
    if (known === this.known) return;
    this.known = known;
    this.products = products.map((one) => ({ ...one, key: plain(one.name) }));
    this.dispatchEvent(new Event("change"));
  }

  /** Products with all these words in their names, those first whose name begins so. */
  find(text) {
    const words = plain(text).split(/\s+/).filter(Boolean);
    const found = this.products.filter(({ key }) => words.every((word) => key.includes(word)));
    const first = (one) => (words.length && one.key.startsWith(words[0]) ? 0 : 1);
    return found.sort((a, b) => first(a) - first(b));
  }
}

const many = (n, what) => (n === 1 ? `1 ${what}` : `${n} ${what}s`);
const counted = (found, text) => (found.length > SHOWN ? `${SHOWN} of ${many(found.length, "product")} are listed: type more of the name`
  : found.length ? many(found.length, "product") : `No product is called ${text.trim() ? `"${text.trim()}"` : "anything yet"}.`);

/** A field in which a product is found by typing: the combobox of WAI-ARIA. */
export class ProductSearch {
  /** `choose(name)` is called with what was chosen. */
  constructor(catalogue, choose) {
    this.catalogue = catalogue;
    this.choose = choose;
    this.input = $("product");
    this.list = $("product-list");
    this.at = -1; // of the options
    this.names = [];
    catalogue.addEventListener("change", () => {
      const count = catalogue.products.length;
      $("product-field").hidden = count === 0;
      this.input.placeholder = `Search ${many(count, "product")}`;
      if (!this.list.hidden) this.open();
    });
    this.input.addEventListener("input", () => this.open());
    this.input.addEventListener("click", () => this.open());
    this.input.addEventListener("keydown", (event) => this.key(event));
    this.input.addEventListener("blur", () => this.close());
    // The field keeps the focus while an option is pressed.
    this.list.addEventListener("pointerdown", (event) => event.preventDefault());
    this.list.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.take(this.names[Number(option.dataset.place)]);
    });
  }

  open() {
    const found = this.catalogue.find(this.input.value);
    this.names = found.slice(0, SHOWN).map((one) => one.name);
    this.list.replaceChildren(...this.names.map((name, place) => el("li", {
      role: "option", id: `product-${place}`, "data-place": String(place), "aria-selected": "false", title: name,
    }, name)));
    this.list.hidden = this.names.length === 0;
    this.input.setAttribute("aria-expanded", String(!this.list.hidden));
    say($("product-said"), counted(found, this.input.value));
    this.move(this.input.value.trim() && this.names.length ? 0 : -1);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute("aria-expanded", "false");
    this.input.removeAttribute("aria-activedescendant");
    say($("product-said"), "");
  }

  move(at) {
    const before = this.list.children[this.at];
    if (before) before.setAttribute("aria-selected", "false");
    this.at = at;
    const option = this.list.children[at];
    if (!option) { this.input.removeAttribute("aria-activedescendant"); return; }
    option.setAttribute("aria-selected", "true");
    this.input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  }

  take(name) {
    this.input.value = "";
    this.close();
    this.choose(name);
  }

  key(event) {
    const last = this.names.length - 1;
    const ways = { ArrowDown: [1, 0], ArrowUp: [-1, last], PageDown: [10, 0], PageUp: [-10, 0], Home: [-Infinity, 0], End: [Infinity, last] };
    const way = ways[event.key];
    if (way && (!["Home", "End"].includes(event.key) || !this.list.hidden)) {
      if (this.list.hidden) { this.open(); if (this.at < 0) this.move(way[1]); } else {
        const to = this.at < 0 ? way[1] : this.at + way[0];
        const wraps = Math.abs(way[0]) === 1;
        this.move(wraps && to > last ? 0 : wraps && to < 0 ? last : Math.min(Math.max(to, 0), last));
      }
    } else if (event.key === "Enter") { // it would send the question
      if (!this.list.hidden && this.at >= 0) this.take(this.names[this.at]);
    } else if (event.key === "Escape" && (!this.list.hidden || this.input.value)) {
      if (this.list.hidden) this.input.value = "";
      this.close();
    } else return;
    event.preventDefault();
  }
}

/** Keeps what was chosen in the picture, or photographed, in the catalogue, so that later questions use its name. */
export class Keep {
  constructor(question, catalogue, role) {
    this.question = question;
    this.catalogue = catalogue;
    this.role = role;
    question.addEventListener("objects", () => this.update());
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
    const name = checkedName($("keep-name"));
    if (!name) return;
    const photos = await Promise.all(this.question.objects.map((one) => one.coded).filter(Boolean));
    if (!await done(send("PUT", productPath(name), { photos }))) return;
    $("keep-name").value = "";
    await this.catalogue.load();
    this.question.choose([{ product: name }]);
    toast(`${name} is in the catalogue.`);
  }
}

/** The dialog in which products are renamed and removed. */
export class ProductManager {
  /** `renamed(before, after)` and `removed(name)` are told. */
  constructor(catalogue, renamed, removed) {
    this.catalogue = catalogue;
    this.renamed = renamed;
    this.removed = removed;
    $("manage").addEventListener("click", () => {
      $("products-text").value = "";
      this.list();
      $("products").showModal();
    });
    $("products-text").addEventListener("input", () => this.list());
    catalogue.addEventListener("change", () => { if ($("products").open) this.list(); });
  }

  list() {
    const found = this.catalogue.find($("products-text").value);
    say($("products-said"), counted(found, $("products-text").value));
    $("products-rows").replaceChildren(...found.slice(0, SHOWN).map((one) => this.row(one)));
  }

  row({ name, photos }) {
    const row = el("li", { class: "product" });
    const button = (words, onclick, more = {}) => el("button", { type: "button", onclick, ...more }, words);
    const show = (...parts) => row.replaceChildren(
      el("img", { src: productPath(name, "/photo.jpg"), alt: "", loading: "lazy" }), ...parts);
    const rest = () => show(
      el("p", {}, el("b", { class: "name", title: name }, name), el("small", {}, many(photos, "photo"))),
      button("Rename", rename, { "aria-label": `Rename ${name}` }),
      button("Remove", confirm, { "aria-label": `Remove ${name}` }));
    const rename = () => {
      const input = el("input", { type: "text", maxlength: "80", ".value": name, "aria-label": `New name of ${name}` });
      const form = el("form", {}, input, el("button", { class: "main" }, "Save"), button("Cancel", rest));
      form.addEventListener("submit", (event) => { event.preventDefault(); this.rename(name, input); });
      show(form);
      input.select();
      input.focus();
    };
    const confirm = () => {
      const yes = button("Remove for good", () => this.remove(name), { class: "bad" });
      show(el("p", {}, `Remove ${name} and its ${many(photos, "photo")}?`), yes, button("Cancel", rest));
      yes.focus();
    };
    rest();
    return row;
  }

  async rename(before, input) {
    const after = checkedName(input);
    if (!after || after === before || !await done(send("PUT", productPath(before, "/name"), after))) return;
    this.renamed(before, after);
    await this.catalogue.load();
    toast(`${before} is called ${after} now.`);
  }

  async remove(name) {
    if (!await done(send("DELETE", productPath(name), null))) return;
    this.removed(name);
    await this.catalogue.load();
    toast(`${name} is removed from the catalogue.`);
  }
}

/** The name in a field; empty, and the field gets the focus, where it is none. */
function checkedName(input) {
  const name = input.value.trim();
  if (!name) { input.focus(); return ""; }
  if (!NO_NAME.test(name)) return name;
  toast("A name has none of / \\ < > : \" | ? *");
  return "";
}

/** Whether a change was made; where it was not, why is said. */
async function done(change) {
  try {
    await change;
    return true;
  } catch (error) {
    if (error.status !== 401) toast(error.message);
    return false;
  }
}
