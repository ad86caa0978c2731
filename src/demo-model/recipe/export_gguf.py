"""Writes a checkpoint as GGUF. usage: export_gguf.py TOKENIZER.json CKPT.pt OUT.gguf f16|q8_0"""
import json
import sys

import gguf
import torch
from gguf import GGMLQuantizationType as Type

import model
from tokenizer import SPECIAL

TEMPLATE = ("{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")


def tensors(sd):
    """(GGUF name, tensor) in file order; GGUF rotates neighbouring rows of q and k, model.py the halves of a head."""
    pairs = lambda w: w.view(-1, 2, model.HD // 2, model.DIM).transpose(1, 2).reshape(w.shape)
    ones = torch.ones(model.DIM)
    yield "token_embd", sd["emb"]
    for i in range(model.LAYERS):
        w = lambda name: sd[f"layers.{i}.{name}"]
        for name, x in (("attn_norm", ones), ("attn_q", pairs(w("q"))), ("attn_k", pairs(w("k"))), ("attn_v", w("v")),
                        ("attn_output", w("o")), ("ffn_norm", ones), ("ffn_gate", w("gate")), ("ffn_up", w("up")),
                        ("ffn_down", w("down"))):
            yield f"blk.{i}.{name}", x
    yield "output_norm", sd["norm"]


def main(tokenizer, ckpt, out, kind):
    bpe = json.load(open(tokenizer))["model"]
    vocab = sorted(bpe["vocab"], key=bpe["vocab"].get)
    w = gguf.GGUFWriter(out, "llama")
    w.add_name("Archivist")
    w.add_license("mit")
    w.add_description("Recall over long synthetic archives; trained from scratch on generated text only.")
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0 if kind == "q8_0" else gguf.LlamaFileType.MOSTLY_F16)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_vocab_size(len(vocab))
    w.add_context_length(model.CONTEXT)
    w.add_embedding_length(model.DIM)
    w.add_block_count(model.LAYERS)
    w.add_feed_forward_length(model.FFN)
    w.add_head_count(model.HEADS)
    w.add_head_count_kv(model.KV)
    w.add_key_length(model.HD)
    w.add_value_length(model.HD)
    w.add_layer_norm_rms_eps(model.EPS)
    w.add_rope_freq_base(model.THETA)
    w.add_rope_dimension_count(model.HD)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("smollm")
    w.add_token_list(vocab)
    w.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in vocab])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in bpe["merges"]])
    w.add_bos_token_id(0)
    w.add_eos_token_id(2)
    w.add_eot_token_id(2)
    w.add_pad_token_id(0)
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_chat_template(TEMPLATE)
    for name, x in tensors(torch.load(ckpt)["model"]):
        t = Type.F32 if x.dim() == 1 else Type.Q8_0 if kind == "q8_0" else Type.F16
        w.add_tensor(name + ".weight", gguf.quants.quantize(x.float().numpy(), t), raw_dtype=t)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
