"""What each peer is asked to do, run by the Python of the peer's own environment:

    python peers.py NAME MODEL DATA.npz BATCH OUT

Imports only what that environment has. Settings are each tool's default unless the name says otherwise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, np.ndarray]


def batches(data: str, batch: int) -> Iterator[Feeds]:
    """The calibration data, some samples at a time."""
    arrays = dict(np.load(data))
    for start in range(0, len(next(iter(arrays.values()))), batch):
        yield {name: array[start : start + batch] for name, array in arrays.items()}


class Reader:
    """Batches as onnxruntime's quantizer and those built on it ask for them."""

    def __init__(self, feeds: Iterator[Feeds]) -> None:
        self.feeds = list(feeds)
        self.rewind()

    def get_next(self) -> Feeds | None:
        return next(self.left, None)

    def rewind(self) -> None:
        self.left = iter(self.feeds)


def onnxruntime_dynamic(model: str, feeds: Iterator[Feeds], out: str) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(model, out, per_channel=True)


def onnxruntime_static(model: str, feeds: Iterator[Feeds], out: str, **options: Any) -> None:
    from onnxruntime.quantization import quantize_static

    quantize_static(model, out, Reader(feeds), **options)


def onnxruntime_unsigned(model: str, feeds: Iterator[Feeds], out: str) -> None:
    from onnxruntime.quantization import QuantType

    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    onnxruntime_static(model, feeds, out, **types, per_channel=True)


def onnxruntime_qdq(model: str, feeds: Iterator[Feeds], out: str) -> None:
    """One scale a channel, ranges from minimum and maximum: onnxruntime's own form and calibrator."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat

    how = {"quant_format": QuantFormat.QDQ, "calibrate_method": CalibrationMethod.MinMax}
    onnxruntime_static(model, feeds, out, **how, per_channel=True)


def onnxruntime_prepared(model: str, feeds: Iterator[Feeds], out: str) -> None:
    """The same behind the preparation that its guide asks for, without symbolic shapes where these fail."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = f"{out}.prepared.onnx"
    os.chdir(Path(out).parent)  # where that fails it leaves a file in the folder that it runs in
    try:
        quant_pre_process(model, prepared)
    except Exception:  # "Incomplete symbolic shape inference"
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
    onnxruntime_qdq(prepared, feeds, out)


def onnxruntime_int4(model: str, feeds: Iterator[Feeds], out: str) -> None:
    """Round to nearest, blocks of 32, MatMul and Gather."""
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    work = MatMulNBitsQuantizer(onnx.load(model), block_size=32, op_types_to_quantize=("MatMul", "Gather"))
    work.process()
    work.model.save_model_to_file(out)


def onnxsim_static(model: str, feeds: Iterator[Feeds], out: str) -> None:
    import onnx
    import onnxsim

    onnx.save(onnxsim.quantize_static(_simplified(model), calibration_data=list(feeds)), out)


def onnxsim_dynamic(model: str, feeds: Iterator[Feeds], out: str) -> None:
    import onnx
    import onnxsim

    onnx.save(onnxsim.quantize_dynamic(_simplified(model)), out)


def _simplified(model: str) -> Any:
    import onnx
    import onnxsim

    return onnxsim.simplify(onnx.load(model))[0]


def nncf(model: str, feeds: Iterator[Feeds], out: str, **options: Any) -> None:
    import nncf as tool
    import onnx

    samples = list(feeds)
    quantized = tool.quantize(onnx.load(model), tool.Dataset(samples), subset_size=len(samples), **options)
    onnx.save(quantized, out)


def nncf_transformer(model: str, feeds: Iterator[Feeds], out: str) -> None:
    import nncf as tool

    nncf(model, feeds, out, model_type=tool.ModelType.TRANSFORMER)


def quark(model: str, feeds: Iterator[Feeds], out: str, settings: str = "U8S8_AAWS") -> None:
    from quark.onnx import ModelQuantizer, QConfig

    ModelQuantizer(QConfig.get_default_config(settings)).quantize_model(model, out, Reader(feeds))


def quark_transformer(model: str, feeds: Iterator[Feeds], out: str) -> None:
    quark(model, feeds, out, "INT8_TRANSFORMER_DEFAULT")


def olive(model: str, feeds: Iterator[Feeds], out: str) -> None:
    import shutil

    from olive.data.config import DataComponentConfig, DataConfig
    from olive.data.registry import Registry
    from olive.model import ONNXModelHandler
    from olive.passes.olive_pass import create_pass_from_dict
    from olive.passes.onnx.quantization import OnnxStaticQuantization

    samples = list(feeds)
    Registry.register_dataset("batches")(lambda **_: [(sample, 0) for sample in samples])
    parts = {"load_dataset_config": "batches", "pre_process_data_config": "skip_pre_process"}
    parts |= {"post_process_data_config": "skip_post_process", "dataloader_config": "no_auto_batch_dataloader"}
    data = DataConfig(name="calibration", **{part: DataComponentConfig(type=kind) for part, kind in parts.items()})
    step = create_pass_from_dict(OnnxStaticQuantization, {"data_config": data}, disable_search=True)
    folder = Path(out).with_suffix("")
    made = step.run(ONNXModelHandler(model_path=model), str(folder))
    shutil.copyfile(made.model_path, out)


PROGRAMS: dict[str, Callable[[str, Iterator[Feeds], str], None]] = {
    "onnxruntime dynamic, per-channel": onnxruntime_dynamic,
    "onnxruntime static, defaults": onnxruntime_static,
    "onnxruntime static, u8, per-channel": onnxruntime_unsigned,
    "onnxruntime static, QDQ": onnxruntime_qdq,
    "onnxruntime static, prepared": onnxruntime_prepared,
    "onnxruntime int4, blocks of 32": onnxruntime_int4,
    "onnxsim dynamic": onnxsim_dynamic,
    "onnxsim static": onnxsim_static,
    "NNCF, defaults": nncf,
    "NNCF, transformer mode": nncf_transformer,
    "Quark U8S8_AAWS": quark,
    "Quark INT8_TRANSFORMER_DEFAULT": quark_transformer,
    "Olive static": olive,
}

if __name__ == "__main__":
    name, model, data, batch, out = sys.argv[1:]
    PROGRAMS[name](model, batches(data, int(batch)), out)
