"""Tiny random models of the architectures in models/README.md's table, and that table.

python -m tests.support.architectures    # writes the table; tests/model/test_architectures.py
# runs every cell of it, and compares
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from stages.sources.model_folder import REASONS

README = Path(__file__).parents[2] / "models/README.md"
BLOCK = re.compile(r"(?<=<!-- architectures -->\n).*?(?=<!-- /architectures -->)", re.DOTALL)
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "n_langs": 1, "use_lang_emb": False}
FUNNEL = {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]}
DEBERTA = {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}

# MobileBERT has no layer normalisation: with weights as large as the others' here its states grow
# from layer to layer, to a root mean square of 128, and the rounding of bf16 grows with them (4 %
# of the states, 0.9 % with layer normalisation in their place, 0.1 % with smaller weights).
MOBILE = {"intra_bottleneck_size": 32, "embedding_size": 32, "initializer_range": 0.05}

# The name in the table: the class that is saved, fields of its config.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "BERT": ("BertModel", SMALL),
    "RoBERTa": ("RobertaForMaskedLM", SMALL),
    "XLM-RoBERTa": ("XLMRobertaForMaskedLM", SMALL),
    "XLM-RoBERTa-XL": ("XLMRobertaXLForMaskedLM", SMALL),
    "CamemBERT": ("CamembertForMaskedLM", SMALL),
    "DistilBERT": ("DistilBertModel", {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}),
    "ELECTRA": ("ElectraModel", {**SMALL, "embedding_size": 16}),
    "ALBERT": ("AlbertForMaskedLM", {**SMALL, "embedding_size": 16}),
    "MPNet": ("MPNetForMaskedLM", SMALL),
    "DeBERTa v1": ("DebertaModel", DEBERTA),
    "DeBERTa v2 and v3": ("DebertaV2Model", {**DEBERTA, "position_buckets": 8}),
    "ModernBERT": ("ModernBertForMaskedLM", {**SMALL, "classifier_pooling": "mean"}),
    "MobileBERT": ("MobileBertModel", {**SMALL, **MOBILE, "hidden_size": 64}),
    "ConvBERT": ("ConvBertModel", {**SMALL, "embedding_size": 32, "conv_kernel_size": 3}),
    "BigBird": ("BigBirdModel", {**SMALL, "block_size": 4, "num_random_blocks": 1}),
    "RoFormer": ("RoFormerModel", {**SMALL, "embedding_size": 32}),
    "NomicBERT": ("NomicBertModel", SMALL),
    "GTE": ("GteModel", SMALL),
    "EuroBERT": ("EuroBertForMaskedLM", SMALL),
    "Jina v3": ("JinaEmbeddingsV3Model", SMALL),
    "ERNIE": ("ErnieModel", SMALL),
    "RemBERT": ("RemBertModel", {**SMALL, "input_embedding_size": 16, "output_embedding_size": 16}),
    "XLM": ("XLMModel", XLM),
    "FlauBERT": ("FlaubertModel", XLM),
    "Funnel": ("FunnelBaseModel", FUNNEL),
    "YOSO": ("YosoModel", SMALL),
    "Data2Vec": ("Data2VecTextModel", SMALL),
    "Megatron-BERT": ("MegatronBertModel", SMALL),
    "RoBERTa-PreLayerNorm": ("RobertaPreLayerNormModel", SMALL),
    "MRA": ("MraModel", SMALL),
    "X-MOD": ("XmodModel", {**SMALL, "languages": ["en_XX"], "default_language": "en_XX"}),
    "RoCBert": ("RoCBertModel", SMALL),
    "ESM": ("EsmModel", {**SMALL, "mask_token_id": 4}),
}

COLUMNS = (
    *("pipeline", "attention", "mlp", "all-linear", "plain PEFT", "merged", "bf16"),
    *("auto", "mean"),
)
# What does not work, and what is said of it: the architecture, the column, the reason.
EXCEPTIONS: dict[str, tuple[str, str]] = {
    "DeBERTa v1": ("bf16", "refused: Transformers' own code for it fails in bf16"),
    "X-MOD": ("bf16", "refused: Transformers' own code for it fails in bf16"),
    "EuroBERT": ("auto", "is refused: its own head averages the logits of all tokens"),
    "Funnel": ("mean", "is refused: it has fewer states than tokens"),
}


def table_of_architectures() -> str:
    """Return the table as Markdown: one row for all that works alike, and what is refused."""
    header = ["architecture", *COLUMNS[:-2], "`model.pooling`"]
    lines = [" | ".join(header), " | ".join("---" for _ in header)]
    alike = sorted(set(ARCHITECTURES) - set(EXCEPTIONS), key=str.lower)
    rows: dict[tuple[str, str] | None, list[str]] = {None: alike}
    for name, exception in EXCEPTIONS.items():
        rows.setdefault(exception, []).append(name)
    for fault, names in rows.items():
        column, reason = fault or ("", "")
        cells = [reason if column == each else "yes" for each in COLUMNS[:-2]]
        works = [each for each in ("auto", "first", "mean") if each != column]
        pooling = ", ".join(works) + (f" ({column} {reason})" if len(works) < 3 else "")
        lines.append(" | ".join([", ".join(names), *cells, pooling]))
    reasons: dict[str, list[str]] = {}
    for name, reason in REASONS.items():
        reasons.setdefault(reason, []).append(name)
    refused = [
        f"{', '.join(sorted(names) if len(names) < 7 else [*sorted(names)[:4], '...'])} ({reason})"
        for reason, names in reasons.items()
    ]
    table = "\n".join(f"| {line} |" for line in lines)
    return f"{table}\n\nRefused by name: {'; '.join(refused)}.\n"


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    README.write_text(BLOCK.sub(lambda _: table_of_architectures(), text), encoding="utf-8")
