package trace

import (
	"bytes"
	"math"
	"slices"
	"testing"
)

// cut returns the records of the example between skip and skip+ops.
func cut(t *testing.T, skip, ops int) (Header, []Record) {
	t.Helper()
	in, err := newPlainReader(bytes.NewReader(example(t)))
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	w, err := NewWriter(&file, in.Header().Program)
	if err != nil {
		t.Fatal(err)
	}
	if err := Cut(w, in, skip, ops); err != nil {
		t.Fatal(err)
	}
	h, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	out, err := NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readAll(out)
	if err != nil {
		t.Fatal(err)
	}
	return h, got
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		skip, ops int
		header    string
		want      []Record
	}{
		{0, math.MaxInt, exampleHeader, exampleRecords},
		{
			0, 2, "program=example threads=1 ops=2 peak_live_bytes=308 peak_live_blocks=2 total_bytes=308",
			exampleRecords[:2],
		},
		{0, 0, "program=example threads=0 ops=0 peak_live_bytes=0 peak_live_blocks=0 total_bytes=0", nil},
		// What is live after three records is made first, with the size that it has got.
		{
			3, 1, "program=example threads=2 ops=3 peak_live_bytes=113 peak_live_blocks=3 total_bytes=113",
			[]Record{{Op: Alloc, Size: 5}, {Op: Calloc, Block: 1, Size: 8}, {Op: AllocAligned, Thread: 1, Block: 2, Size: 100, Align: 64}},
		},
		// What is dead by then is not, and ids and threads begin at 0.
		{
			5, 1, "program=example threads=2 ops=2 peak_live_bytes=105 peak_live_blocks=2 total_bytes=105",
			[]Record{{Op: Alloc, Size: 5}, {Op: AllocAligned, Thread: 1, Block: 1, Size: 100, Align: 64}},
		},
		{99, 99, "program=example threads=2 ops=2 peak_live_bytes=105 peak_live_blocks=2 total_bytes=105", nil},
	} {
		h, got := cut(t, c.skip, c.ops)
		if h.String() != c.header {
			t.Errorf("%d records after %d: header\n%v, want\n%s", c.ops, c.skip, h, c.header)
		}
		if c.want != nil && !slices.Equal(got, c.want) {
			t.Errorf("%d records after %d: got\n%+v, want\n%+v", c.ops, c.skip, got, c.want)
		}
	}
}
