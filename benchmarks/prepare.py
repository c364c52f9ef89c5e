"""CelebA's full size in bounded memory: prepared, killed on the way and resumed, then served from the memory map.

    python -m benchmarks.prepare                  # 202,599 pictures: 1.5 GB for a while, and 2.5 GB prepared
    python -m benchmarks.prepare --count 20000

Generated JPEGs of CelebA's size (178×218) take its place, under its names and with a list of 40 attributes, in a
temporary folder that is removed. Every stage is a process of its own, whose peak memory is what the system says.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import io
import json
import multiprocessing
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ganlib import GAN, fit, load, models
from ganlib._runtime import device as runtime
from ganlib.data import Batches, cache, toyfaces
from ganlib.steps import dcgan_step

FULL = 202_599
DIFFERENT = 256  # pictures; the others repeat them, which costs whoever reads them the same
BATCH = 128
SPAWN = multiprocessing.get_context("spawn")


def make(folder: Path, count: int) -> float:
    """Write ``count`` JPEGs and their attributes in CelebA's layout into ``folder``; gives their megabytes."""
    pictures = folder / "celeba" / "img_align_celeba"
    pictures.mkdir(parents=True)
    drawn, _ = next(toyfaces.face_chunks(DIFFERENT, 218, 0, DIFFERENT))
    noise = np.random.default_rng(0).normal(0, 3, (218, 178, 3))  # photographs are not smooth
    encoded = []
    for face in drawn[:, :, :, 20:198]:
        buffer = io.BytesIO()
        pixels = (face.transpose(1, 2, 0) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "jpeg", quality=90)
        encoded.append(buffer.getvalue())
    for k in range(count):
        (pictures / f"{k + 1:06d}.jpg").write_bytes(encoded[k % DIFFERENT])
    with (folder / "celeba" / "list_attr_celeba.txt").open("w") as file:
        file.write(f"{count}\n{' '.join(f'Attribute_{a}' for a in range(40))}\n")
        for k in range(count):
            values = " ".join(" 1" if (k >> a % 18) & 1 else "-1" for a in range(40))
            file.write(f"{k + 1:06d}.jpg {values}\n")
    return sum(len(encoded[k % DIFFERENT]) for k in range(count)) / 1e6


def _peak() -> float:
    """The most memory this process has had, in gigabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def prepare() -> dict:
    """Prepare whatever is not prepared yet."""
    start, before = time.perf_counter(), _peak()
    images = load("celeba", download=False)
    seconds = time.perf_counter() - start
    return {"images": len(images), "seconds": seconds, "peak_gb": _peak(), "imports_gb": before, "said": images.source}


def serve(batches: int, steps: int) -> dict:
    """Images a second from the memory map, first as the disk gives them, then from what the system has kept of the
    file; and what a DCGAN of the paper's size eats."""
    cache.MAP_ABOVE = 0  # a smaller count than the full one is mapped, too
    start = time.perf_counter()
    images = load("celeba", download=False)
    found = {"opened_in_seconds": time.perf_counter() - start}
    file = next(runtime.cache_dir().glob("celeba-*/pixels.bin"))
    for name in ("from_disk", "from_page_cache"):
        if name == "from_disk" and hasattr(os, "posix_fadvise"):
            with file.open("rb") as pixels:
                os.fsync(pixels.fileno())  # what is not on the disk yet cannot be forgotten
                os.posix_fadvise(pixels.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        source = Batches(images, BATCH, seed=0)
        next(source)
        start = time.perf_counter()
        for _ in range(batches):
            next(source)
        found[name] = batches * BATCH / (time.perf_counter() - start)
    found["mapped"] = images.pixels.nbytes
    generator, discriminator = models.dcgan_generator(64, 3, 64), models.dcgan_discriminator(64, 3, 64)
    g_opt, d_opt = (torch.optim.Adam(net.parameters(), 2e-4, (0.5, 0.999)) for net in (generator, discriminator))
    gan = GAN(generator, discriminator, g_opt, d_opt, z_dim=100)
    how = {"batch_size": BATCH, "watchers": ()}
    fit(gan, dcgan_step, images, steps=1, **how)
    found["eaten"] = steps * BATCH / fit(gan, dcgan_step, images, steps=steps, **how).seconds
    return found


def _alone(function, *args):
    """What a function gives in a process of its own."""
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *args).result()


def measure(count: int, batches: int, steps: int) -> dict:
    """Make the pictures, prepare them with a kill in the middle, serve them; prints and returns what was measured."""
    results = {"processor": runtime.processor(), "torch": torch.__version__, "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory(prefix="ganlib-") as temporary:
        os.environ["GANLIB_DATA"], os.environ["GANLIB_CACHE"] = temporary, f"{temporary}/cache"
        megabytes = make(Path(temporary), count)
        print(f"{results['processor']} · {results['threads']} threads · {count:,} JPEGs, {megabytes:,.0f} MB")
        killed = SPAWN.Process(target=prepare)
        killed.start()
        growing = Path(temporary, "cache", ".making-celeba-train-64-3", "pixels.bin")
        start, half = time.perf_counter(), count // 2 * 64 * 64 * 3
        while killed.is_alive() and not (growing.exists() and growing.stat().st_size > half):
            time.sleep(0.05)
        killed.kill()
        killed.join()
        done = growing.stat().st_size // (64 * 64 * 3)
        first = time.perf_counter() - start
        print(f"killed after {first:,.0f} s with {done:,} images written: {done / first:,.0f} images/s")
        rest = _alone(prepare)
        left = count - done
        print(
            f"resumed: {left:,} images in {rest['seconds']:,.0f} s, {left / rest['seconds']:,.0f} images/s · peak "
            f"memory {rest['peak_gb']:.2f} GB, of which {rest['imports_gb']:.2f} before any image"
        )
        served = _alone(serve, batches, steps)
        print(
            f"opened in {served['opened_in_seconds']:.1f} s · served from the map of {served['mapped'] / 1e9:.2f} GB "
            f"in random batches of {BATCH}: {served['from_disk']:,.0f} images/s from the disk, "
            f"{served['from_page_cache']:,.0f} once read · a DCGAN of width 64 eats {served['eaten']:,.1f}"
        )
    kill = {"seconds": first, "images_written": done}
    return {**results, "count": count, "jpeg_mb": megabytes, "killed": kill, "went_on": rest, "served": served}


def main() -> None:
    """Measure, and keep the numbers as JSON in ``runs/bench/``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=FULL, help=f"pictures (default {FULL:,})")
    parser.add_argument("--batches", type=int, default=400, help="batches to time (default 400)")
    parser.add_argument("--steps", type=int, default=3, help="training steps to time (default 3)")
    args = parser.parse_args()
    results = measure(args.count, args.batches, args.steps)
    path = runtime.new_run_folder("runs/bench") / "prepare.json"
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(path)


if __name__ == "__main__":
    main()
