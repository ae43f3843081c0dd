"""Models of one line, opened."""

import onnx.parser

from compress_ops.runtime import Session, open_session

HEADER = '<ir_version: 8, opset_import: ["": 17, "ai.onnx.ml": 3]>'


def session(body: str, inputs: str = "float[n,c] a, float[n,c] b", outputs: str = "float[n,c] y") -> Session:
    text = f"{HEADER} g ({inputs}) => ({outputs}) {{ {body} }}"
    return open_session(onnx.parser.parse_model(text).SerializeToString())
