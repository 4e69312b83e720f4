"""Records of spectra: what is written is read again, to the digits that each part keeps; the old form is read too."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapscope.errors import InputError
from gapscope.measures.spectra import mode_record, tails
from gapscope.numerics.hosvd.near_rank import near_rank_count
from gapscope.numerics.hosvd.spectrum import ModeSpectrum, round_up
from gapscope.records.descending import decode, encode, rounded
from gapscope.records.spectra import (
    DIGITS,
    FIGURE_DIGITS,
    POINTS,
    LayerRecord,
    ModeRecord,
    kept_indices,
    log_indices,
    parse_spectra,
    read_spectra,
    spectra_text,
    write_spectra,
)  # fmt: skip

CUT = 1e-2


def spectrum(count: int, seed: int = 0, zeros: int = 0) -> ModeSpectrum:
    draws = np.random.default_rng(seed)
    values = np.sort(np.append(10.0 ** draws.uniform(-12, 3, count - zeros), np.zeros(zeros)))[::-1]
    bounds = round_up(1e-13 * values[0] * draws.uniform(0.1, 9, count))
    return ModeSpectrum(values, count + 5, bounds, "deflation")


def layer(*modes: ModeSpectrum, shape: tuple[int, ...], **about: object) -> LayerRecord:
    return LayerRecord("run", "conv1", shape, [mode_record(mode, CUT) for mode in modes], **about)  # type: ignore[arg-type]


@given(st.lists(st.floats(0, 1e300, allow_subnormal=True), max_size=30), st.sampled_from([1, 4, 10]))
def test_descending_numbers_survive_to_their_digits(values: list[float], digits: int) -> None:
    values = sorted(values, reverse=True)
    text = encode(values, digits=digits, start=7.0)
    assert decode(text, digits=digits, start=7.0, most=len(values)).tolist() == [
        rounded(value, digits) for value in values
    ]


def test_equal_numbers_are_written_once() -> None:
    text = encode([0.5, *[0.0] * 4000], digits=10, start=0.5)
    assert text.count(" ") == 2
    assert text.endswith("0*3999")
    assert decode(text, digits=10, start=0.5, most=4001).tolist() == [0.5, *[0.0] * 4000]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_a_number_that_no_spectrum_has_is_never_written(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite and >= 0"):
        encode([value], digits=10, start=1.0)
    ranks = dict.fromkeys(("stable_rank", "effective_rank", "participation_ratio"), 1.0)
    record = LayerRecord(
        "run", "a", (2, 2), [ModeRecord("qr", 2.0, 1.0, np.zeros(2), np.array([value, 1.0]), {}, ranks)]
    )
    with pytest.raises(ValueError, match="finite and >= 0"):
        write_spectra(tmp_path / "r.jsonl", {"cut": 9}, [record])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2, 119, 200, 201, 5000])
def test_a_record_keeps_the_tail_the_extremes_and_the_quantiles(count: int, tmp_path: Path) -> None:
    whole = spectrum(count, zeros=count // 3)
    dead = [unit for unit in (0, 3, 4, 5) if unit < count]
    zeros = {"dead_units": dead, "duplicate_samples": [], "batch_size": None}
    write_spectra(tmp_path / "r.jsonl", {"cut": CUT, "status": "ok"}, [layer(whole, shape=(count + 5, count), **zeros)])
    header, (found,) = read_spectra(tmp_path / "r.jsonl")
    assert header == {"schema": 2, "cut": CUT, "status": "ok"}
    assert (found.shape, found.dead_units, found.duplicate_samples) == ((count + 5, count), dead, [])
    (mode,) = found.modes
    values = np.array([rounded(value, DIGITS) for value in whole.values.tolist()])
    assert (mode.count, mode.largest, mode.smallest, mode.method) == (count, values[0], values[-1], "deflation")
    assert mode.tail.tolist() == values[count - len(mode.tail) :].tolist()
    assert set(values[values <= CUT]) <= set(mode.tail.tolist())
    assert mode.error_bound.tolist() == whole.error_bound.tolist()
    for index in kept_indices(count):
        assert mode.value(index) in (values[index], rounded(values[index], FIGURE_DIGITS))
    assert mode_record(whole, CUT).ranks == pytest.approx(mode.ranks, rel=1e-9)


def test_the_quantiles_are_about_200_with_those_of_the_figure_among_them() -> None:
    for count in (1, 60, 200, 201, 999, 20_000):
        kept = kept_indices(count)
        assert set(log_indices(count)) <= set(kept)
        assert {0, count - 1} <= set(kept)
        assert min(count, 0.7 * POINTS) <= len(kept) <= POINTS


def test_a_spectrum_of_many_zeros_takes_few_bytes() -> None:
    values = np.append(np.linspace(3, 2, 10), np.zeros(8000))
    text = spectra_text({"cut": CUT}, [layer(ModeSpectrum(values, 8010, 0.0, "qr"), shape=(8010, 9000))])
    assert len(text) < 700


OLD = (
    '{"schema": 1, "status": "ok", "exact_zeros": [{"sample": "run", "layer": "a", "samples": 3, "units": 2, '
    '"dead_units": [1], "duplicate_samples": [2]}]}\n'
    '{"sample": "run", "layer": "a", "mode": 0, "shape": [3, 2], "size": 3, "structural": 1, '
    '"error_bound": [[1, 0.25], [1, 1e-9]], "method": "qr", "values": [3.0, 0.5]}\n'
    '{"end": 2}\n'
)


def test_a_record_that_lists_every_value_is_read_with_an_infinite_cut(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text(OLD)
    header, (found,) = read_spectra(tmp_path / "old.jsonl")
    assert header == {"schema": 1, "status": "ok", "cut": np.inf}
    assert (found.shape, found.dead_units, found.duplicate_samples) == ((3, 2), [1], [2])
    (tail,) = tails(found, header["cut"])
    (counted,) = near_rank_count([tail], 0.6)
    assert (counted.economy, counted.structural, counted.fraction) == (1, 1, 0.5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"end":3', '"end":4'),
        ('"cut"', '"cup"'),
        ('"tail"', '"tale"'),
        ('"schema":2', '"schema":3'),
        ('"shape":[8,6]', '"shape":[8,6,2]'),
        ('[[6,', '[[7,'),
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused(old: str, new: str, tmp_path: Path) -> None:
    modes = ModeSpectrum(np.array([6.0, 5.0, 4.0, 3.0, 2.0, 1e-5]), 8, 2.0**-40, "qr")
    text = spectra_text({"cut": CUT}, [layer(modes, shape=(8, 6))])
    assert text.count(old) == 1
    (tmp_path / "r.jsonl").write_text(text.replace(old, new))
    with pytest.raises(InputError, match=r"r\.jsonl is not a whole record of spectra"):
        read_spectra(tmp_path / "r.jsonl")


def test_two_writings_give_the_same_bytes_and_reading_loses_nothing() -> None:
    modes = [spectrum(60, seed) for seed in range(3)]
    text = spectra_text({"cut": CUT, "seed": 1}, [layer(*modes, shape=(65, 65, 65))])
    header, layers = parse_spectra(text)
    assert spectra_text(header, layers) == text
    assert json.loads(text.splitlines()[0])["cut"] == CUT
