"""Values, names and scopes: what a spec may compute."""

# ruff: noqa: E501 (specs as they would be written)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from netspec import zoo
from netspec.compiler import Elaborated, elaborate, read
from netspec.diagnostics import SpecErrors, UsageError
from netspec.ir.sections import Solver

Nets = Callable[..., Elaborated]

IMAGE = 'input "data" { shape: 4x32x16 }\n'


def width(built: Elaborated) -> int:
    """The number of outputs of the last layer."""
    return built.test.net.nodes[-1].top_types[0].shape[1]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7), ("(1 + 2) * 3", 9), ("7 // 2", 3), ("-7 // 2 + 5", 1), ("7 % 4", 3),
        ("6 / 3", 2), ("1 / 3 * 6", 2), ("8 * (3 / 4) + 1 / 2 + 1 / 2", 7), ("--3", 3), ("0x1F", 31),
        ("min(4, 3, 5)", 3), ("max(1, 1 / 2)", 1), ("10 - 2 - 3", 5), ("2 if 1 < 2 else 3", 2),
        ("1 if false else 2 if false else 3", 3), ("(1 if 2 == 2 else 0) + 1", 2),
        ("5 if not 1 > 2 and (true or 1 / 0 > 1) else 6", 5), ("in.channels", 4), ("in.height", 32),
        ("in.width", 16), ("in.height * in.width / in.channels", 128), ("3 if (1 <= 1) == true else 4", 3),
        ("2 if 1 != 1 or 3 >= 3 else 1", 2), ("(3)", 3), ("999999999999999999 - 999999999999999998", 1),
    ],
)  # fmt: skip
def test_arithmetic_is_exact(nets: Nets, expression: str, value: int) -> None:
    assert width(nets(IMAGE + f"fc {{ num_output: {expression} }}")) == value


def test_a_volume_has_a_depth(nets: Nets) -> None:
    text = 'input "data" { shape: 2x3x5x7 }\nfc { num_output: in.channels * 1000 + in.depth * 100'
    assert width(nets(f"{text} + in.height * 10 + in.width }}")) == 2357
    with pytest.raises(SpecErrors, match="the current blob, 4x32x16, has no depth"):
        nets(IMAGE + "fc { num_output: in.depth }")


def test_a_fraction_is_fine_where_a_number_is(nets: Nets) -> None:
    text = 'data "test" { source: "x"  batch_size: 1  transform { scale: 1/255 } }\n'
    data = nets(text + IMAGE + "relu").test.net.data
    assert data is not None
    assert data.transform.scale == 1 / 255


def test_floats_mix(nets: Nets) -> None:
    built = nets(IMAGE + "let a = 0.5\ndropout { dropout_ratio: a * 3 / 5 } fc { num_output: 2 }")
    assert built.test.net.nodes[1].layer.model_dump()["dropout_ratio"] == pytest.approx(0.3)


class TestLet:
    def test_top_level_names_hold_for_the_whole_file(self, nets: Nets) -> None:
        assert width(nets(IMAGE + "fc { num_output: a }\nlet a = 3")) == 3

    def test_a_let_reads_those_before_it(self, nets: Nets) -> None:
        assert width(nets(IMAGE + "let a = 3\nlet b = a * a\nfc { num_output: b }")) == 9

    def test_a_let_keeps_the_current_blob(self, nets: Nets) -> None:
        text = (
            "let c = in.channels\nlet d = 2 * c\nfc { num_output: 100 }\nfc { num_output: c + d }"
        )
        assert width(nets(IMAGE + text)) == 12

    def test_an_inner_scope_may_name_again(self, nets: Nets) -> None:
        text = "let a = 3\nrepeat 1 { let a = 4  fc { num_output: a } }\nfc { num_output: a }"
        built = nets(IMAGE + text)
        assert [n.top_types[0].shape[1] for n in built.test.net.nodes[1:]] == [4, 3]

    def test_words_lists_and_strings_have_names_too(self, nets: Nets) -> None:
        text = "let kind = AVE\nlet window = 2x4\npool { pool: kind  kernel_size: window }"
        layer = nets(IMAGE + text).test.net.nodes[1].layer.model_dump()
        assert (layer["pool"], layer["kernel_size"]) == ("AVE", (2, 4))

    def test_a_name_wins_over_an_enum_word_where_the_field_has_no_such_word(
        self, nets: Nets
    ) -> None:
        assert width(nets(IMAGE + "let MAX = 5\nfc { num_output: MAX }")) == 5

    def test_quotes_choose_the_word(self, nets: Nets) -> None:
        nets(IMAGE + 'let MAX = 2\npool { pool: "MAX"  kernel_size: MAX  stride: 2 }')

    def test_keywords_are_fields_too(self, nets: Nets) -> None:
        with pytest.raises(SpecErrors, match="conv has no field `repeat`"):
            nets(IMAGE + "conv { num_output: 3  kernel_size: 1  repeat: 3 }")


class TestBlocks:
    def test_arguments_by_position_by_name_and_by_default(self, nets: Nets) -> None:
        text = "block b(n, k = n + 1, m = k * 2) { fc { num_output: m } }\n"
        assert width(nets(IMAGE + text + "b(2)")) == 6
        assert width(nets(IMAGE + text + "b(2, 5)")) == 10
        assert width(nets(IMAGE + text + "b(m: 7, n: 1)")) == 7

    def test_arguments_are_lists_tests_and_strings(self, nets: Nets) -> None:
        text = "block b(size, deep, from) { conv { bottom: from  num_output: 3  kernel_size: size } when deep { relu } }\n"
        net = nets(IMAGE + text + 'b([3, 5], deep: 1 < 2, from: "data")').test.net
        assert [n.name for n in net.nodes] == ["data", "b1/conv1", "b1/relu1"]

    def test_a_body_sees_its_formals_and_its_file_only(self, nets: Nets) -> None:
        text = "let a = 2\nblock b(n) { let c = a * n  fc { num_output: c } }\nrepeat 1 { let a = 9  b(3) }"
        assert width(nets(IMAGE + text)) == 6

    def test_a_block_may_stand_below_its_use(self, nets: Nets) -> None:
        assert width(nets(IMAGE + "b()\nblock b() { fc { num_output: 2 } }")) == 2

    def test_default_may_read_the_current_blob(self, nets: Nets) -> None:
        assert width(nets(IMAGE + "block b(n = in.channels) { fc { num_output: n } }\nb()")) == 4


class TestRepeatAndWhen:
    def test_repeat_counts_from_zero(self, nets: Nets) -> None:
        built = nets(IMAGE + "repeat 3 as i { fc { num_output: 10 * i + 1 } }")
        assert [n.top_types[0].shape[1] for n in built.test.net.nodes[1:]] == [1, 11, 21]

    def test_repeat_none(self, nets: Nets) -> None:
        assert len(nets(IMAGE + "repeat 0 { relu }\nrelu").test.net.nodes) == 2

    def test_when_and_else(self, nets: Nets) -> None:
        text = (
            IMAGE + "block b(k) { when k == full { relu } else { tanh } }\nlet full = 1\nb(1) b(2)"
        )
        assert [n.layer.keyword for n in nets(text).test.net.nodes] == ["input", "relu", "tanh"]

    def test_words_compare(self, nets: Nets) -> None:
        text = (
            IMAGE
            + 'block b(kind = MAX) { when kind == "MAX" { relu } when kind == MAX { tanh } }\nb()'
        )
        assert len(nets(text).test.net.nodes) == 3


class TestInclude:
    def test_blocks_and_lets_of_another_file(self, nets: Nets) -> None:
        text = 'include "blocks.net"\n' + IMAGE + "b(depth)"
        blocks = "let depth = 3\nlet hidden = 2\nblock b(n) { fc { num_output: n * hidden } }"
        assert width(nets(text, blocks=blocks)) == 6

    def test_two_files_may_include_the_same(self, nets: Nets) -> None:
        text = 'include "one.net"\ninclude "two.net"\n' + IMAGE + "one()\ntwo()"
        one = 'include "base.net"\nblock one() { fc { num_output: n } }'
        two = 'include "base.net"\nblock two() { fc { num_output: 2 * n } }'
        assert width(nets(text, one=one, two=two, base="let n = 5")) == 10

    def test_the_blocks_of_a_bundled_spec(self, nets: Nets) -> None:
        text = 'include "netspec:resnet18.net"\ninput "data" { shape: 64x8x8 }\nbasic(width)'
        net = nets(text).test.net
        assert net.nodes[-1].name == "basic1/relu1"
        assert net.name == "spec"  # of its file, not of the one included

    def test_bundled_blocks_include_what_is_beside_them(
        self, nets: Nets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(zoo, "folder", lambda: tmp_path)
        (tmp_path / "blocks").mkdir()
        (tmp_path / "top.net").write_text("let n = 2")
        (tmp_path / "blocks" / "lets.net").write_text('include "../top.net"\nlet m = 3')
        text = 'include "lets.net"\nblock b() { fc { num_output: n * m } }'
        (tmp_path / "blocks" / "b.net").write_text(text)
        assert width(nets('include "netspec:blocks/b.net"\n' + IMAGE + "b()")) == 6

    @pytest.mark.parametrize("name", ["../x.net", "/etc/passwd", "nothing.net", "", "./"])
    def test_bundled_blocks_include_bundled_files_only(
        self, name: str, nets: Nets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "x.net").write_text("let n = 2")
        folder = tmp_path / "specs"
        folder.mkdir()
        monkeypatch.setattr(zoo, "folder", lambda: folder)
        (folder / "b.net").write_text(f'include "{name}"')
        with pytest.raises(SpecErrors, match="netspec comes with no"):
            nets('include "netspec:b.net"\n' + IMAGE + "relu")


class TestSet:
    SOLVER = "solver { base_lr: 0.1  max_iter: 5  type: SGD }\n"
    DATA = 'data "train" { source: "x"  batch_size: 4  transform { scale: 2 } }\n'

    def test_a_let(self, nets: Nets) -> None:
        text = IMAGE + "let a = 3\nlet b = a + 1\nfc { num_output: b }"
        assert width(nets(text, "a=5")) == 6
        assert width(nets(text, "a = 2 * 3", "b=9")) == 9

    def test_fields_of_sections(self, nets: Nets) -> None:
        text = self.DATA + self.SOLVER + IMAGE + "relu"
        net = nets(text, "solver.base_lr=0.5", "solver.type=Adam", "data.train.batch_size=7",
                   "data.train.transform.scale=1/4").train.net  # fmt: skip
        assert isinstance(net.solver, Solver)
        assert (net.solver.base_lr, net.solver.type) == (0.5, "Adam")
        assert net.data is not None
        assert (net.batch, net.data.transform.scale) == (7, 0.25)

    def test_epochs_take_the_place_of_iterations(self, nets: Nets) -> None:
        net = nets(self.SOLVER + IMAGE + "relu", "solver.max_epoch=2").train.net
        assert net.solver is not None
        assert (net.solver.max_epoch, net.solver.max_iter) == (2, None)

    def test_a_section_within_that_is_not_there(self, nets: Nets) -> None:
        text = 'data "test" { source: "x"  batch_size: 4 }\n' + IMAGE + "relu"
        net = nets(text, "data.test.transform.scale=3").test.net
        assert net.data is not None
        assert net.data.transform.scale == 3

    @pytest.mark.parametrize(
        ("setting", "says"),
        [
            ("widht=3", "did you mean `width`?"), ("width", "name=value"), ("=3", "name=value"),
            ("width=", "not a value"), ("width={}", "not a value"), ("width=3 relu", "not a value"),
            ("solvr.base_lr=3", "did you mean `solver`?"), ("data.valid.batch_size=3", "no such section"),
            ("solver=3", "no top-level `let solver`"), ("data.train=3", "no such section"),
        ],
    )  # fmt: skip
    def test_what_is_not_there(self, nets: Nets, setting: str, says: str) -> None:
        with pytest.raises(UsageError) as caught:
            nets(self.DATA + self.SOLVER + IMAGE + "let width = 3\nrelu", setting)
        assert says in str(caught.value)

    @pytest.mark.parametrize(
        "setting", ["solver.base_lr=0", "solver.bas_lr=1", "width=1/0", "width=x"]
    )
    def test_a_wrong_value_is_shown_where_it_was_given(self, nets: Nets, setting: str) -> None:
        text = self.SOLVER + IMAGE + "let width = 3\nfc { num_output: width }"
        with pytest.raises(SpecErrors) as caught:
            nets(text, setting)
        assert len(caught.value.faults) == 1
        assert "--set" in str(caught.value)


def test_a_spec_by_its_name_takes_settings() -> None:
    built = elaborate(read("resnet18", sets=["width=32"]))
    assert built.test.net.parameters[0].shape == (32, 3, 7, 7)
    assert Path("resnet18").exists() is False
