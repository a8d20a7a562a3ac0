"""Samples as columns: how they are read, where that is quicker than record by record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from f1hbase.model.catalog import Endpoint
from f1hbase.model.memo import Memo
from f1hbase.model.samples import Samples, Texts


class SampleColumns(Samples):
    """Samples whose columns are at hand; their rows are made when they are asked for.

    Args:
        endpoint: The endpoint, whose `numeric` must be true.
        columns: The values of each field, in the order of the endpoint's; all of one length.
    """

    def __init__(self, endpoint: Endpoint, columns: Sequence[Sequence[Any]]) -> None:
        super().__init__(endpoint, ())
        self._rows = None
        self._columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> Samples: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | Samples:
        if isinstance(index, slice):
            return SampleColumns(self.endpoint, [column[index] for column in self.columns])
        return {name: column[index] for name, column in zip(self.endpoint.fields, self.columns, strict=True)}


class SampleTexts(SampleColumns):
    """Samples whose numbers are at hand as texts, which is what a cell holds; numbers are made when they are asked for.

    Args:
        endpoint: The endpoint.
        keys: The columns of `SAMPLE_KEYS`.
        texts: Those of all other fields, in the order of the endpoint's.
    """

    def __init__(self, endpoint: Endpoint, keys: Sequence[Sequence[Any]], texts: Texts) -> None:
        super().__init__(endpoint, ())
        self._columns = None
        self._keys = keys
        self._texts = texts

    @property
    def columns(self) -> Sequence[Sequence[Any]]:
        """The values of each field."""
        if self._columns is None:
            self._columns = [*self._keys, *(list(map(_NUMBERS.__getitem__, column)) for column in self._texts)]
        return self._columns

    @property
    def keys(self) -> Sequence[Sequence[Any]]:
        """The columns of `SAMPLE_KEYS`."""
        return self._keys

    @property
    def texts(self) -> Texts:
        """The columns of all other fields."""
        return self._texts

    def __len__(self) -> int:
        return len(self._keys[0])


class SampleArrays(SampleColumns):
    """Samples of one car whose columns are Arrow arrays; other values are made when they are asked for.

    Args:
        endpoint: The endpoint.
        places: The meeting's key, the session's, and the driver's number, which are those of all.
        dates: The dates, as texts.
        numbers: Those of all other fields, in the order of the endpoint's: arrays of whole numbers.
    """

    def __init__(self, endpoint: Endpoint, places: Sequence[int], dates: Any, numbers: Sequence[Any]) -> None:
        super().__init__(endpoint, ())
        self._columns = None
        self.places = places
        self.dates = dates
        self.numbers = numbers

    @property
    def columns(self) -> Sequence[Sequence[Any]]:
        """The values of each field."""
        if self._columns is None:
            arrays = [self.dates, *self.numbers]
            self._columns = [*([place] * len(self) for place in self.places), *(one.to_pylist() for one in arrays)]
        return self._columns

    def __len__(self) -> int:
        return len(self.dates)


_NUMBERS: Memo[bytes | None, int | None] = Memo(lambda text: None if text is None else int(text))
