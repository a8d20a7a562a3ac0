// Downloads: CSV of rows, SVG of elements, PNG of either.

/** Give a blob to the user as a file. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

export function saveText(text, kind, name) {
  save(new Blob([text], { type: `${kind};charset=utf-8` }), name);
}

/** CSV as RFC 4180 has it; null is empty. What a spreadsheet would take for a formula is made a text. */
export function csv(header, lines) {
  const cell = (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return "";
    if (typeof value === "number") return String(value);
    const text = /^[=+\-@\t\r]/.test(value) && !/^[+-]\d+(\.\d+)?$/.test(value) ? `'${value}` : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [header, ...lines].map((line) => line.map(cell).join(",")).join("\r\n") + "\r\n";
}

export function saveSvg(picture, name) {
  saveText(new XMLSerializer().serializeToString(picture), "image/svg+xml", name);
}

/** Draw an SVG as PNG, twice as large, and save it. */
export async function savePng(picture, name, scale = 2) {
  const width = Number(picture.getAttribute("width"));
  const height = Number(picture.getAttribute("height"));
  const url = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(picture)], { type: "image/svg+xml" }));
  try {
    const image = new Image(width * scale, height * scale);
    image.src = url;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    save(await new Promise((resolve) => canvas.toBlob(resolve, "image/png")), name);
  } finally {
    URL.revokeObjectURL(url);
  }
}
