// A request as a multipart form: its images are parts, each sent once.
import type { Image, ImageBytes, ImageSet, Item, RawPixels } from "./types.js";

type Source = { part: string; raw?: { height: number; width: number; channels?: 3 | 4 } } | { url: string };

const isRaw = (image: Image): image is RawPixels => "pixels" in image;
const isUrl = (image: Image): image is { url: string } => "url" in image;

/** Gathers the images of a request. */
export class Parts {
  readonly #names = new Map<object, Source>();
  readonly #files: [string, ImageBytes][] = [];

  /** How the request names an image. */
  source(image: Image): Source {
    if (isUrl(image)) return { url: image.url };
    const known = this.#names.get(image);
    if (known) return known;
    const name = `image${this.#files.length}`;
    const source: Source = isRaw(image) ? { part: name, raw: shapeOf(image) } : { part: name };
    this.#files.push([name, isRaw(image) ? image.pixels : image]);
    this.#names.set(image, source);
    return source;
  }

  /** The form of a request that names them. */
  form(request: object): FormData {
    const form = new FormData();
    form.append("request", JSON.stringify(request));
    for (const [name, bytes] of this.#files) form.append(name, blobOf(bytes), "image");
    return form;
  }
}

function shapeOf({ height, width, channels }: RawPixels): { height: number; width: number; channels?: 3 | 4 } {
  return channels === undefined ? { height, width } : { height, width, channels };
}

// `Blob` takes no views of shared memory, which a `Uint8Array` may be by its type.
function blobOf(bytes: ImageBytes): Blob {
  return bytes instanceof Blob ? bytes : new Blob([bytes as Uint8Array<ArrayBuffer> | ArrayBuffer]);
}

/** Images as the service takes them. */
export function sourcesOf(images: readonly Image[], parts: Parts): object[] {
  return images.map((each) => parts.source(each));
}

/** A set as the service takes it. */
export function setOf(members: ImageSet, parts: Parts): object {
  return "images" in members ? { images: sourcesOf(members.images, parts) } : members;
}

/** Items as the service takes them; those that share an image name it once. */
export function itemsOf(items: readonly Item[], parts: Parts): object[] {
  return items.map(({ image, frames, referenceImage, ...others }) => ({
    ...others,
    ...(image === undefined ? {} : { image: parts.source(image) }),
    ...(frames === undefined ? {} : { frames: sourcesOf(frames, parts) }),
    ...(referenceImage === undefined ? {} : { reference_image: parts.source(referenceImage) }),
  }));
}
