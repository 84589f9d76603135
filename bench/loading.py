"""The loader on a prepared dataset against bare work on bytes in memory."""

import io
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from item import Item, compare
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from lofi.data.docs import Doc
from lofi.data.images import image_writer, inspect
from lofi.data.stored import StoredImages
from lofi.engine.loader import Loader
from lofi.engine.photo import Photo
from lofi.models.facts import ASSETS
from lofi.models.pictures import Opening, Picture
from lofi.models.processor import load_processor

SIDE = 336  # of the pictures that LLaVA-1.5's encoder reads
PART = 64  # photos that a job asks the dataset for at a time
RANGE = 50  # pictures that a bare worker takes at a time
CORES = len(os.sched_getaffinity(0))
CPU = torch.device("cpu")
ROUNDS = 7


def picture(seed: int, width: int, height: int) -> bytes:
    """A JPEG of quality 90: a smooth scene under noise, as photographs have it."""
    draw = np.random.default_rng(seed)
    blocks = np.clip(128 + 50 * draw.normal(size=(height // 16, width // 16, 3)), 0, 255).astype(np.uint8)
    scene = np.asarray(Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)
    noisy = (scene + draw.normal(0, 12, scene.shape)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "JPEG", quality=90)
    return file.getvalue()


def clip_processor() -> CLIPImageProcessorPil:
    """LLaVA-1.5's."""
    return CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})


class _Given:
    ranges: list[list[bytes]]
    processor: CLIPImageProcessorPil


def _begin(ranges: list[list[bytes]]) -> None:
    torch.set_num_threads(1)
    _Given.ranges = ranges
    _Given.processor = clip_processor()


def _decode(index: int) -> int:
    for content in _Given.ranges[index]:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        size = (SIDE * image.width // min(image.size), SIDE * image.height // min(image.size))
        image.resize(size, Image.Resampling.BICUBIC)
    return len(_Given.ranges[index])


def _process(index: int) -> int:
    for content in _Given.ranges[index]:
        image = Image.open(io.BytesIO(content)).convert("RGB")
        _Given.processor(image, return_tensors="pt")
    return len(_Given.ranges[index])


class Bare:
    """Decoding and resizing alone: bytes that every process has in memory, results that nobody asks for."""

    about = "Pillow's decode and resize"
    step = staticmethod(_decode)

    def __init__(self, contents: list[bytes]) -> None:
        self.ranges = [contents[at : at + RANGE] for at in range(0, len(contents), RANGE)]
        context = multiprocessing.get_context("fork")
        self.pool = ProcessPoolExecutor(CORES, mp_context=context, initializer=_begin, initargs=(self.ranges,))

    def __call__(self) -> None:
        assert sum(self.pool.map(self.step, range(len(self.ranges)))) == sum(map(len, self.ranges))


class Whole(Bare):
    """The same work done by the library: decoding, then its own image processor; results that nobody asks for."""

    about = "Pillow's decode and the library's image processor"
    step = staticmethod(_process)


class Loading:
    """The loader: row groups from disk, workers, and pixel values as CLIP's own processor gives them."""

    def __init__(self, path: Path) -> None:
        self.images = StoredImages(path)
        processor = load_processor(ASSETS / "digits-llava")
        processor.image_processor = clip_processor()
        processor.patch_size = 14
        self.opening = Opening(processor, CPU)
        self.loader = Loader(self.opening, workers=CORES)

    def __call__(self) -> None:
        n = 0
        for opened in self.loader.open(self._photos()):
            assert opened.picture, opened.error
            self.take(opened.picture)
            n += 1
        assert n == len(self.images)

    def take(self, picture: Picture) -> None:
        """What the main process does with a picture."""
        values = self.opening.finished(picture, CPU)["pixel_values"]
        assert values.shape == (1, 3, SIDE, SIDE)

    def _photos(self) -> Iterator[Photo]:
        blank = dict.fromkeys((field.name for field in fields(Doc)), "")
        doc = Doc(**{**blank, "prompt": "What is it?"})  # type: ignore[arg-type]
        hashes = self.images.hashes
        for at in range(0, len(hashes), PART):
            for key, content in self.images.read(hashes[at : at + PART]).items():
                yield Photo(key, content, (doc,))


class Handing(Loading):
    """The same up to the bytes that go to a GPU, which normalises them."""

    def take(self, picture: Picture) -> None:
        assert picture.inputs["pixel_values"].shape == (3, SIDE, SIDE)


def stored(path: Path, contents: list[bytes]) -> Path:
    """The pictures as `lofi prepare` stores them."""
    with image_writer(path, {}) as writer:
        for content in contents:
            writer.add(inspect(content))
    return path


def loader_vs_decode() -> Item:
    """JPEGs of 336 x 336 pixels from a prepared dataset to pixel values, against decoding them and nothing else."""
    return _loading("loader_vs_decode", (SIDE, SIDE), 2000, Loading, Bare)


def loader_vs_decode_gpu() -> Item:
    """The same up to the bytes that go to a GPU, where the arithmetic is done."""
    return _loading("loader_vs_decode_gpu", (SIDE, SIDE), 2000, Handing, Bare)


def loader_vs_decode_large() -> Item:
    """The same for pictures of the size of COCO's, which POPE, VQAv2 and GQA show."""
    return _loading("loader_vs_decode_large", (640, 480), 600, Loading, Bare)


def loader_vs_processor() -> Item:
    """JPEGs of 336 x 336 pixels to pixel values, against the library's own processor in as many processes."""
    return _loading("loader_vs_processor", (SIDE, SIDE), 1000, Loading, Whole)


def _loading(
    name: str, size: tuple[int, int], count: int, kind: Callable[[Path], Callable[[], None]], bare: type[Bare]
) -> Item:
    torch.set_num_threads(1)  # the workers have the cores
    contents = [picture(seed, *size) for seed in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        loading = kind(stored(Path(folder) / "images.parquet", contents))
        return compare(name, f"{bare.about} in {CORES} processes", bare(contents), loading, ROUNDS)
