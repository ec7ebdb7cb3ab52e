"""Compiled programs as text: loops, groups, bytes, each counted by hand."""

import jax
import jax.numpy as jnp
import pytest

from echo_jax.planning import hlo
from echo_jax.planning.collectives import (
  Traffic,
  find_collectives,
  sum_by_kind,
)
from echo_jax.planning.kernels import kernel_flops
from echo_jax.planning.memory import Memory, out_of_memory
from echo_jax.planning.traffic import hbm_bytes

# A loop that runs 7 - 1 times, an asynchronous pair, a collective in three
# pieces, and a reduce-scatter as XLA:TPU writes it.
TEXT = """\
HloModule toy, is_scheduled=true, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[4,8])) -> (s32[], f32[4,8]) {
  %p = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %one = s32[]{:T(128)} constant(1)
  %next = s32[]{:T(128)} add(%i, %one)
  %x = f32[4,8]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %reduced = f32[4,8]{1,0:T(8,128)} all-reduce(%x), channel_id=1, \
replica_groups=[2,4]<=[8], use_global_device_ids=true, to_apply=%add
  ROOT %t = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) tuple(%next, %reduced)
}

%condition (q: (s32[], f32[4,8])) -> pred[] {
  %q = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%q), index=0
  %limit = s32[]{:T(128)} constant(7)
  ROOT %less = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

%piece (r: bf16[2,8]) -> bf16[16,8] {
  %r = bf16[2,8]{1,0} parameter(0)
  ROOT %part = bf16[16,8]{1,0} all-gather(%r), channel_id=2, \
replica_groups=mesh['a'=8,'b'=1] {'a'}, dimensions={0}, \
frontend_attributes={chain_id="0"}
}

%all-reduce-scatter.1 (s: bf16[16,8]) -> bf16[2,8] {
  %s = bf16[16,8]{1,0} parameter(0)
  %whole = bf16[16,8]{1,0} all-reduce(%s), channel_id=3, \
replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  %zero = s32[] constant(0)
  ROOT %mine = bf16[2,8]{1,0} dynamic-slice(%whole, %zero, %zero), \
dynamic_slice_sizes={2,8}
}

ENTRY %main (x0: f32[4,8], r0: bf16[2,8]) -> bf16[2,8] {
  %x0 = f32[4,8]{1,0:T(8,128)} parameter(0)
  %r0 = bf16[2,8]{1,0} parameter(1)
  %start = s32[]{:T(128)} constant(1)
  %init = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) tuple(%start, %x0)
  %loop = (s32[]{:T(128)}, f32[4,8]{1,0:T(8,128)}) while(%init), \
condition=%condition, body=%body
  %first = bf16[16,8]{1,0} fusion(%r0), kind=kCustom, calls=%piece
  %second = bf16[16,8]{1,0} fusion(%r0), kind=kCustom, calls=%piece
  %third = bf16[16,8]{1,0} fusion(%r0), kind=kCustom, calls=%piece
  %scattered = bf16[2,8]{1,0} fusion(%third), kind=kCustom, \
calls=%all-reduce-scatter.1
  %cp = (bf16[2,8]{1,0}, bf16[2,8]{1,0}) collective-permute-start(%scattered),\
 channel_id=4, source_target_pairs={{0,1},{1,0}}
  ROOT %done = bf16[2,8]{1,0} collective-permute-done(%cp)
}
"""


def test_collectives_of_a_text_are_those_counted_by_hand():
  module = hlo.parse_module(TEXT)
  found = sum_by_kind(find_collectives(module, TEXT))
  assert found == {
    "all-gather": Traffic(1, 7 / 8 * 16 * 8 * 2),
    "reduce-scatter": Traffic(1, 7 / 8 * 16 * 8 * 2),
    "all-reduce": Traffic(6, 6 * 2 * 3 / 4 * 4 * 8 * 4),
    "collective-permute": Traffic(1, 2 * 8 * 2),
  }


def test_a_loop_of_unknown_length_is_named_and_counted_once():
  text = TEXT.replace("%limit = s32[]{:T(128)} constant(7)",
                      "%limit = s32[]{:T(128)} custom-call()")  # fmt: skip
  module = hlo.parse_module(text)
  assert hlo.runs(module)[1] == ["loop"]
  assert sum_by_kind(find_collectives(module, text))["all-reduce"].count == 1
  noted = text.replace(
    "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"6"}}'
  )
  module = hlo.parse_module(noted)
  assert hlo.runs(module)[1] == []
  assert sum_by_kind(find_collectives(module, noted))["all-reduce"].count == 6


@pytest.mark.parametrize(
  ("groups", "size"),
  [
    ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", 2),
    ("replica_groups={}", 8),
    ("replica_groups=[4,2]<=[2,4]T(1,0)", 2),
    ("replica_groups=mesh['a'=2,'b'=4] {'b'}", 4),
    ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}", 8),
    ("replica_groups=mesh['a'=8] {'a':(2)2}", 2),
    ("replica_groups=mesh['a'=2,'b'=4], device_ids=([2,4]T(1,0)) {'b'}", 4),
  ],
)
def test_groups_are_read_in_every_form(groups, size):
  text = TEXT.replace("replica_groups=[2,4]<=[8]", groups)
  found = find_collectives(hlo.parse_module(text), text)
  assert [one.group for one in found if one.kind == "all-reduce"] == [size]


def test_what_is_not_known_is_refused():
  text = TEXT.replace("[2,4]<=[8]", "new-notation")
  with pytest.raises(ValueError, match="groups of all-reduce"):
    find_collectives(hlo.parse_module(text), text)
  text = TEXT.replace("all-reduce(%x)", "collective-broadcast(%x)")
  with pytest.raises(ValueError, match="collective-broadcast"):
    find_collectives(hlo.parse_module(text), text)
  with pytest.raises(ValueError, match="element type 'q7'"):
    hlo.parse_module(TEXT.replace("f32[4,8]", "q7[4,8]"))


def test_bytes_of_hbm_leave_out_what_stays_on_the_chip():
  text = """\
HloModule toy

%fused (u: f32[100,8], v: f32[8]) -> f32[8] {
  %u = f32[100,8]{1,0} parameter(0)
  %v = f32[8]{0} parameter(1)
  %k = s32[] constant(3)
  %row = f32[1,8]{1,0} dynamic-slice(%u, %k, %k), dynamic_slice_sizes={1,8}
  %flat = f32[8]{0} bitcast(%row)
  ROOT %sum = f32[8]{0} add(%flat, %v)
}

ENTRY %main (u0: f32[100,8], v0: f32[8]) -> f32[8] {
  %u0 = f32[100,8]{1,0} parameter(0)
  %v0 = f32[8]{0} parameter(1)
  %cs = (f32[8]{0:S(1)}, f32[8]{0}, u32[]{:S(2)}) copy-start(%v0)
  %cd = f32[8]{0:S(1)} copy-done(%cs)
  ROOT %f = f32[8]{0} fusion(%u0, %cd), kind=kLoop, calls=%fused
}
"""
  # v0 comes in once, of u0 one row, and the sum goes out.
  assert hbm_bytes(hlo.parse_module(text)) == 32 + 32 + 32


def test_kernels_of_attention_count_their_products():
  text = """\
HloModule toy

ENTRY %main (q: bf16[2,3,128,8], k: bf16[2,3,256,8]) -> bf16[2,3,128,8] {
  %q = bf16[2,3,128,8]{3,2,1,0} parameter(0)
  %k = bf16[2,3,256,8]{3,2,1,0} parameter(1)
  %splash_mha_fwd_segmented.1 = (f32[128,8]{1,0}, bf16[2,3,128,8]{3,2,1,0}) \
custom-call(%q, %k, %k), custom_call_target="tpu_custom_call", \
operand_layout_constraints={s8[1]{0}, bf16[2,3,128,8]{3,2,1,0}, \
bf16[2,3,256,8]{3,2,1,0}}, frontend_attributes={kernel_metadata={
"told":"over several lines"
}}
  ROOT %y = bf16[2,3,128,8]{3,2,1,0} get-tuple-element(\
%splash_mha_fwd_segmented.1), index=1
}
"""
  module = hlo.parse_module(text)
  assert module["main"].root.name == "y"
  assert kernel_flops(module) == 2 * 2 * (2 * 3) * 128 * 256 * 8
  backward = text.replace("mha_fwd", "mha_dkv")
  assert kernel_flops(hlo.parse_module(backward)) == 2 * kernel_flops(module)
  result = "bf16[2,3,128,8]{3,2,1,0})"
  fused = backward.replace(f", {result}", f"{f', {result[:-1]}' * 4})")
  assert kernel_flops(hlo.parse_module(fused)) == 5 / 2 * kernel_flops(module)
  with pytest.raises(ValueError, match="kernel other_fwd"):
    kernel_flops(hlo.parse_module(text.replace("splash_mha", "other")))


def test_loops_of_a_program_for_this_machine_are_followed():
  def add_up(x):
    return jax.lax.fori_loop(2, 13, lambda i, y: jnp.sin(y) * i, x)

  text = jax.jit(add_up).lower(jnp.ones((64, 64))).compile().as_text()
  times = [run.times for run in hlo.runs(hlo.parse_module(text))[0]]
  assert max(times) == 11 and not hlo.runs(hlo.parse_module(text))[1]


@pytest.mark.parametrize(
  ("text", "needs", "has"),
  [
    ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required "
     "for HLO temporaries (256.00G) exceeds available HBM (15.75G).",
     256, 15.75),
    ("XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
     "Used 32.95G of 15.75G hbm. Exceeded hbm capacity by 17.20G.",
     32.95, 15.75),
  ],
)  # fmt: skip
def test_a_refusal_says_how_much_is_missing(text, needs, has):
  memory = out_of_memory(RuntimeError(text))
  assert memory == Memory(round(needs * 2**30), -1, -1, round(has * 2**30))
  assert not memory.fits and memory.spare_bytes < 0


def test_another_error_is_not_taken_for_a_lack_of_memory():
  with pytest.raises(RuntimeError, match="something else"):
    out_of_memory(RuntimeError("something else"))
