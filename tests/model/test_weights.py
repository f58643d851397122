"""Checkpoints in each layout they come in, written at toy size, read as the model that wrote them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, ConvNextConfig, LlamaConfig, LlavaConfig

from dpn_model import DpnConfig, DpnForConditionalGeneration, Method, RoutingLoss
from dpn_model.assemble import assemble
from dpn_model.bases.llava_hr.model import LlavaHrConfig

VOCAB = 20
LLM = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
CLIP = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 1, "image_size": 16, "patch_size": 4}
PIXELS = {"llava": 16, "llava_hr": 128}


def build(kind: str, vocab_size: int = VOCAB + 1, image_token: int | None = None) -> DpnForConditionalGeneration:
    """A model as an import would configure it: `<ROUTER>` in the last row, `<image>` behind it."""
    text = LlamaConfig(**LLM, num_key_value_heads=4, vocab_size=vocab_size)
    image_token = vocab_size if image_token is None else image_token
    if kind == "llava":
        clip = CLIPVisionConfig(**CLIP, num_hidden_layers=3)
        base = LlavaConfig(vision_config=clip, text_config=text, image_token_index=image_token)
    else:
        base = LlavaHrConfig(
            vision_config=CLIPVisionConfig(**CLIP, num_hidden_layers=19),
            slow_vision_config=ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 2, 1], layer_norm_eps=1e-6),
            text_config=text,
            image_size=PIXELS[kind],
            image_token_index=image_token,
        )
    torch.manual_seed(0)
    model = DpnForConditionalGeneration(DpnConfig(base_config=base, router_token_id=vocab_size - 1))
    for name, parameter in model.named_parameters():
        if ".adapters." in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def outputs(model: DpnForConditionalGeneration, kind: str) -> Tensor:
    torch.manual_seed(1)
    ids = torch.tensor([[1, 5, *[model.image_token_id] * model.num_visual_tokens(), 6, model.config.router_token_id]])
    return model(ids, pixel_values=torch.randn(1, 3, PIXELS[kind], PIXELS[kind])).logits


TO_ORIGINAL = (
    (r"^model\.language_model\.", "model."),
    (r"^model\.multi_modal_projector\.linear_1\.", "model.mm_projector.0."),
    (r"^model\.multi_modal_projector\.linear_2\.", "model.mm_projector.2."),
    (r"^model\.vision_tower\.fast\.", "model.vision_tower.fast_vision_tower.vision_tower.vision_model."),
    (r"^model\.vision_tower\.adapters\.", "model.vision_tower.align_stages_latent."),
    (r"^model\.vision_tower\.merge\.", "model.vision_tower.align_stages.0."),
    (r"^model\.vision_tower\.slow\.", "model.vision_tower.slow_vision_tower.vision_tower."),
    (r"^model\.vision_tower\.(?=embed|pre|enc|post)", "model.vision_tower.vision_tower.vision_model."),
)
TO_TIMM = (
    (r"embeddings\.patch_embeddings\.", "stem.0."),
    (r"embeddings\.layernorm\.", "stem.1."),
    (r"encoder\.stages\.(\d+)\.downsampling_layer\.", r"stages.\1.downsample."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.dwconv\.", r"stages.\1.blocks.\2.conv_dw."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layernorm\.", r"stages.\1.blocks.\2.norm."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.pwconv(\d)\.", r"stages.\1.blocks.\2.mlp.fc\3."),
    (r"encoder\.stages\.(\d+)\.layers\.(\d+)\.layer_scale_parameter", r"stages.\1.blocks.\2.weight"),
)
TO_LLAVA_HF = (
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^model\.vision_tower\.", "vision_tower.vision_model."),
    (r"^model\.multi_modal_projector\.", "multi_modal_projector."),
)


def rename(tensors: dict[str, Tensor], *tables: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for table in tables:
            if table is TO_TIMM and "slow" not in name:
                continue
            for old, new in table:
                name = re.sub(old, new, name, count=1)
        renamed[name] = tensor
    return renamed


def drop_router_row(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t[:-1] if "embed_tokens" in name or "lm_head" in name else t for name, t in tensors.items()}


def original_config(kind: str, **fields) -> dict:
    towers = {} if kind == "llava" else {"is_multipath_encoder": True, "vision_tower_slow": "convnext_large_mlp"}
    return {
        "model_type": "llava",
        "architectures": ["LlavaLlamaForCausalLM"],
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "input_image_size": PIXELS[kind],
        **LLM,
        **towers,
        **fields,
    }


def write_original(folder: Path, config: dict, tensors: dict[str, Tensor]) -> None:
    """config.json and two PyTorch shards with their index, and buffers that old versions of transformers stored."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    tensors = tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    names = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"pytorch_model-{number:05d}-of-00002.bin"
        torch.save({name: tensors[name].clone() for name in part}, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("kind", ["llava", "llava_hr"])
def test_original_checkpoint_gives_the_same_answers(kind: str, tmp_path: Path) -> None:
    model = build(kind)
    state = rename(drop_router_row(model.state_dict()), TO_ORIGINAL, TO_TIMM)
    assert any("mm_projector.0" in name for name in state)
    write_original(tmp_path, original_config(kind), state)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.base.to_dict()["vision_config"]["patch_size"] == 4
    expected = drop_router_row(model.state_dict())
    for name, tensor in drop_router_row(again.state_dict()).items():
        assert torch.equal(tensor, expected[name]), name
    assert 0.005 < again.lm_head.weight[-1].std() < 0.05  # the row of <ROUTER> is new
    again.save_pretrained(tmp_path / "ours")
    ours = DpnForConditionalGeneration.from_pretrained(tmp_path / "ours")
    assert torch.equal(outputs(ours, kind), outputs(again, kind))


KERNELS = [[1, 1], [1, 2], [2, 2]]
POOLING = {
    "type": "adaptive",
    "layers": [{"index": index, "kernel_size": KERNELS, "stride": KERNELS} for index in (0, 2)],
    "function": "max",
    "location": "post",
    "prepooling": False,
    "use_special_token": True,
    "router_version": "v1",
}


@pytest.mark.parametrize("kind", ["llava", "llava_hr"])
def test_dpn_checkpoint_brings_its_routers_and_sites(kind: str, tmp_path: Path) -> None:
    model = build(kind)
    model.configure_method(Method(name="dpn", sites=(1, 3), routing_loss=RoutingLoss(weight=0.001)))
    model.eval()
    state = rename(model.state_dict(), TO_ORIGINAL, TO_TIMM)
    state = {
        re.sub(r"^reducers\.(\d)\.router", lambda m: f"model.layers.{int(m[1]) - 1}.pooling_router", name): tensor
        for name, tensor in state.items()
    }
    assert "model.layers.2.pooling_router.mlp1.1.weight" in state
    write_original(tmp_path, original_config(kind, pooling=POOLING), state)
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert again.config.method_settings == model.config.method_settings
    assert again.config.router_token_id == VOCAB
    assert torch.equal(outputs(again, kind), outputs(model, kind))
    assert again.last_routing.route(0) == model.last_routing.route(0)


@pytest.mark.parametrize("layout", ["on disk", "in memory"])
def test_llava_hf_folder(layout: str, tmp_path: Path) -> None:
    """32000-like ids: `<image>`, `<pad>`, then the row that `<ROUTER>` takes."""
    model = build("llava", vocab_size=24, image_token=VOCAB)
    state = rename(model.state_dict(), *([TO_LLAVA_HF] if layout == "on disk" else []))
    (tmp_path / "config.json").write_text(json.dumps(model.config.base.to_dict()))
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "model.safetensors")
    again = DpnForConditionalGeneration.from_pretrained(tmp_path)
    assert (again.image_token_id, again.config.router_token_id) == (VOCAB, VOCAB + 2)
    model.config.router_token_id = VOCAB + 2
    assert torch.equal(outputs(again, "llava"), outputs(model, "llava"))


@pytest.mark.parametrize("kind", ["llava", "llava_hr"])
@pytest.mark.parametrize("prefix", ["model.", "", None])
def test_parts_make_a_model(kind: str, prefix: str | None, tmp_path: Path) -> None:
    """The projector's file names its tensors with or without a prefix; or (None) it is in the LLM's folder."""
    model = build(kind)
    if kind == "llava_hr":
        model.model.vision_tower.reset_adapters()
    state = rename(drop_router_row(model.state_dict()), TO_ORIGINAL, TO_TIMM)
    parts = ("model.layers.", "model.embed", "model.norm", "lm_head")
    llm = {n: t.clone() for n, t in state.items() if n.startswith(parts)}
    projector = {n: t.clone() for n, t in state.items() if "mm_projector" in n or "align_stages." in n}
    tower = "model.vision_tower." + ("fast_vision_tower." if kind == "llava_hr" else "") + "vision_tower."
    clip = {n.removeprefix(tower): t.clone() for n, t in state.items() if n.startswith(tower)}
    clip |= {"text_model.final_layer_norm.weight": torch.ones(3), "logit_scale": torch.ones(())}
    for folder, tensors in (("vicuna", llm | (projector if prefix is None else {})), ("clip", clip)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.json").write_text(json.dumps(LLM))
        torch.save(tensors, tmp_path / folder / "pytorch_model.bin")
    file = tmp_path / "mm_projector.bin"
    torch.save({f"{prefix}{n.removeprefix('model.')}": t for n, t in projector.items()}, file)
    slow = None
    if kind == "llava_hr":
        slow = tmp_path / "convnext_large.bin"
        timm = {n.split("slow_vision_tower.vision_tower.")[-1]: t for n, t in state.items() if "slow_vision" in n}
        torch.save({f"visual.trunk.{n}": t for n, t in timm.items()} | {"text.positional": torch.ones(2)}, slow)
    vicuna, clip_folder = tmp_path / "vicuna", tmp_path / "clip"
    again = assemble(vicuna, clip_folder, None if prefix is None else file, slow, image_size=PIXELS[kind])
    expected = drop_router_row(model.state_dict())
    for name, tensor in drop_router_row(again.state_dict()).items():
        if ".adapters." not in name:
            assert torch.equal(tensor, expected[name]), name
        elif "slow_proj" in name:
            assert not tensor.any()  # fresh adapters are the identity
    fresh = assemble(vicuna, clip_folder, None, slow, image_size=PIXELS[kind], fresh_projector=True)
    weight = "model.multi_modal_projector.linear_1.weight"
    assert torch.equal(fresh.state_dict()[weight], expected[weight]) == (prefix is None)


def test_keys_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = rename(drop_router_row(build("llava").state_dict()), TO_ORIGINAL)
    state["model.norm.weight"] = torch.ones(7)
    state["model.layers.1.stranger"] = torch.ones(1)
    del state["model.layers.0.mlp.up_proj.weight"]
    write_original(tmp_path, original_config("llava"), state)
    with pytest.raises(ValueError, match="does not fit the model") as error:
        DpnForConditionalGeneration.from_pretrained(tmp_path)
    told = str(error.value)
    assert "1 missing: model.language_model.layers.0.mlp.up_proj.weight" in told
    assert "1 unexpected: model.language_model.layers.1.stranger" in told
    assert "1 misshapen: model.language_model.norm.weight [7] instead of [32]" in told


def test_absent_parts_and_unknown_fields_are_named(tmp_path: Path) -> None:
    state = rename(drop_router_row(build("llava").state_dict()), TO_ORIGINAL)
    write_original(tmp_path, original_config("llava"), {n: t for n, t in state.items() if "vision_tower" not in n})
    with pytest.raises(ValueError, match="the CLIP vision tower is not in the checkpoint"):
        DpnForConditionalGeneration.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(original_config("llava", mm_projector_type="linear")))
    with pytest.raises(ValueError, match="mm_projector_type = 'linear'; allowed: 'mlp2x_gelu'"):
        DpnForConditionalGeneration.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="model_type = 'bert' .*allowed: dpn, llava"):
        DpnForConditionalGeneration.from_pretrained(tmp_path)
