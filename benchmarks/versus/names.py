"""The tools that can take part, by the names that ``--tools`` knows."""

from __future__ import annotations

GMPQ = "gmpq"
ORT_INT8, ORT_FP32, ORT_QDQ = "ort-int8", "ort-fp32", "ort-qdq"
OPENVINO_INT8, OPENVINO_FP32 = "openvino-int8", "openvino-fp32"
LITERT_INT8 = "litert-int8"

TOOLS = (GMPQ, ORT_INT8, OPENVINO_INT8, LITERT_INT8, ORT_FP32, OPENVINO_FP32)
INT8_BASELINES = (ORT_INT8, OPENVINO_INT8, LITERT_INT8)
