// The plugin in AssemblyScript of the demo and the conformance suite, on Extism's own development kit.
import { Config, Host, Memory, Var } from "@extism/as-pdk";
import { error_set } from "@extism/as-pdk/lib/env";

// What the compiler calls where JavaScript would throw: `--use abort=guest/onAbort`. Without it the plugin would import
// a function that no Extism host has.
function onAbort(message: string | null, file: string | null, line: u32, column: u32): void {
  if (message !== null) error_set(Memory.allocateString(message).offset);
  unreachable();
}

// Host.outputString takes the length in UTF-16 units and so cuts off text that is not ASCII.
function output(text: string): void {
  Host.output(Uint8Array.wrap(String.UTF8.encode(text)));
}

// The inside of a JSON string.
function json(text: string): string {
  let escaped = "";
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit == 0x22 || unit == 0x5c) escaped += "\\" + text.charAt(i);
    else if (unit < 0x20) escaped += "\\u00" + (unit < 0x10 ? "0" : "") + unit.toString(16);
    else escaped += text.charAt(i);
  }
  return escaped;
}

// The code points of a text; a Set of them is faster to ask than the text.
function characters(text: string): Set<i32> {
  const found = new Set<i32>();
  for (let i = 0; i < text.length; i++) {
    const character = text.codePointAt(i);
    if (character > 0xffff) i++;
    found.add(character);
  }
  return found;
}

// Counts the vowels of the input. The config key "vowels" replaces the set of vowels; the variable "total", decimal text,
// adds up the counts of all calls. Output: {"count":3,"total":3,"vowels":"aeiouAEIOU"}
export function count_vowels(): i32 {
  const configured = Config.get("vowels");
  const vowels = configured === null ? "aeiouAEIOU" : configured;
  const wanted = characters(vowels);

  const input = Host.inputString();
  let count: u64 = 0;
  for (let i = 0; i < input.length; i++) {
    const character = input.codePointAt(i);
    if (character > 0xffff) i++;
    if (wanted.has(character)) count++;
  }

  const before = Var.getString("total");
  const total = (before === null ? 0 : U64.parseInt(before)) + count;
  Var.set("total", Uint8Array.wrap(String.UTF8.encode(total.toString())));

  output('{"count":' + count.toString() + ',"total":' + total.toString() + ',"vowels":"' + json(vowels) + '"}');
  return 0;
}

// Says "Hello, <input>!". The config key "greeting" replaces "Hello".
export function greet(): i32 {
  const configured = Config.get("greeting");
  output((configured === null ? "Hello" : configured) + ", " + Host.inputString() + "!");
  return 0;
}
