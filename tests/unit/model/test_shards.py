"""A table by SPI in parts: a dictionary to whoever uses it."""

from __future__ import annotations

import random

from ipsecha.model.shards import SHARDS, Sharded, ShardedByIkeSpi


def test_it_is_a_dictionary() -> None:
    chance, table, reference = random.Random(4), Sharded[str](), dict[int, str]()
    for number in range(5000):
        key = chance.getrandbits(12) << 5
        match chance.randrange(5):
            case 0:
                assert table.pop(key, "none") == reference.pop(key, "none")
            case 1:
                assert table.setdefault(key, str(number)) == reference.setdefault(key, str(number))
            case 2:
                assert table.get(key) == reference.get(key)
                assert table.get(key, "") == reference.get(key, "")
            case _:
                table[key] = reference[key] = str(number)
        assert (key in table) == (key in reference)
        assert len(table) == len(reference)
    assert table == reference
    assert sorted(table) == sorted(reference)
    for key in list(table):
        del table[key]
    assert not table


def test_what_is_taken_out_is_all_of_it_and_the_table_goes_on_empty() -> None:
    table = Sharded[int]()
    table.update({number << 4: number for number in range(1000)})
    gone = table.take_all()
    assert sum(map(len, gone)) == 1000
    assert not table
    table[7] = 7
    assert 7 not in {key for shard in gone for key in shard}
    assert dict(table) == {7: 7}


def test_spis_in_a_row_and_by_chance_are_spread() -> None:
    """Those in a row fill the parts one after the other, so that these do not grow together."""
    chance = random.Random(5)
    for keys in (range(0x10000, 0x10000 + 16_384), {chance.getrandbits(26) for _ in range(16_384)}):
        table = Sharded[None]()
        for key in keys:
            table[key] = None
        sizes = [len(shard) for shard in table.take_all()]
        assert len(sizes) == SHARDS
        assert max(sizes) < 1.3 * len(keys) / SHARDS


def test_by_ike_spi_it_is_a_dictionary_too() -> None:
    chance, table, reference = random.Random(6), ShardedByIkeSpi[int](), dict[bytes, int]()
    for number in range(5000):
        key = chance.choice((b"", b"short", b"\x01slot" + chance.getrandbits(9).to_bytes(3, "big")))
        if chance.randrange(3):
            table[key] = reference[key] = number
        else:
            assert table.pop(key, None) == reference.pop(key, None)
        assert (key in table, table.get(key), len(table)) == (key in reference, reference.get(key), len(reference))
    assert table == reference
    assert 7 not in table
    table.clear()
    assert not table


def test_ike_spis_in_a_row_and_by_chance_are_spread() -> None:
    """So that the parts do not grow together: a dictionary of 87,381 entries that grows takes many milliseconds."""
    chance = random.Random(7)
    for numbers in (range(16_384), {chance.getrandbits(24) for _ in range(16_384)}):
        table = ShardedByIkeSpi[None]()
        for number in numbers:
            table[b"\x01slot" + number.to_bytes(3, "big")] = None
        sizes = [len(shard) for shard in table._shards]
        assert max(sizes) < 1.3 * len(numbers) / SHARDS
