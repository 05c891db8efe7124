"""Tiny random models of the architectures that the README's table names."""

from __future__ import annotations

from typing import Any

SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
XLM = {"emb_dim": 32, "n_layers": 2, "n_heads": 2, "n_langs": 1, "use_lang_emb": False}
FUNNEL = {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]}
DEBERTA = {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}

# The name in the README: model_type, the class that is saved, fields of its config.
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
    "DeBERTa": ("DebertaModel", DEBERTA),
    "DeBERTa-v2, -v3": ("DebertaV2Model", {**DEBERTA, "position_buckets": 8}),
    "ModernBERT": ("ModernBertForMaskedLM", {**SMALL, "classifier_pooling": "mean"}),
    "MobileBERT": (
        "MobileBertModel",
        {**SMALL, "hidden_size": 64, "embedding_size": 32, "intra_bottleneck_size": 32},
    ),
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
    "SqueezeBERT": (
        "SqueezeBertModel",
        {
            **SMALL,
            "embedding_size": 32,
            **dict.fromkeys(("q_groups", "k_groups", "v_groups"), 2),
            **dict.fromkeys(("intermediate_groups", "output_groups"), 2),
        },
    ),
    "YOSO": ("YosoModel", SMALL),
    "Nystromformer": ("NystromformerModel", {**SMALL, "num_landmarks": 4}),
    "FNet": ("FNetModel", SMALL),
    "Data2Vec": ("Data2VecTextModel", SMALL),
    "Megatron-BERT": ("MegatronBertModel", SMALL),
    "RoBERTa-PreLayerNorm": ("RobertaPreLayerNormModel", SMALL),
    "I-BERT": ("IBertModel", SMALL),
    "MRA": ("MraModel", SMALL),
    "X-MOD": ("XmodModel", {**SMALL, "languages": ["en_XX"], "default_language": "en_XX"}),
    "LUKE": ("LukeModel", {**SMALL, "entity_vocab_size": 4, "entity_emb_size": 8}),
    "RoCBert": ("RoCBertModel", SMALL),
    "ESM": ("EsmModel", {**SMALL, "mask_token_id": 4}),
    "Longformer": ("LongformerModel", {**SMALL, "attention_window": 8}),
    "CANINE": ("CanineModel", SMALL),
    "UltraBERT": ("UltraBertModel", SMALL),
    "Cohere Compass": ("CohereCompassTextModel", {**SMALL, "head_dim": 16, "layer_types": None}),
    "LiLT": ("LiltModel", SMALL),
}
