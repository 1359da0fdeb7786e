package trace

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// The example of the format.
const (
	exampleHeader = "program=example threads=2 ops=5 peak_live_bytes=308 peak_live_blocks=3 total_bytes=413"
	exampleHex    = "0000ac02" + "040008" + "02000205" + "03016440" + "010102"
)

var exampleRecords = []Record{
	{Op: Alloc, Thread: 0, Block: 0, Size: 300},
	{Op: Calloc, Thread: 0, Block: 1, Size: 8},
	{Op: Realloc, Thread: 0, Block: 0, Size: 5},
	{Op: AllocAligned, Thread: 1, Block: 2, Size: 100, Align: 64},
	{Op: Free, Thread: 1, Block: 1},
}

func example(t testing.TB) []byte { return plain(t, exampleHeader, exampleHex) }

// plain returns a decompressed trace.
func plain(t testing.TB, header, records string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(records, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(magic+header+"\n"), b...)
}

func zip(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// readAll returns the records up to the end, or the first error.
func readAll(r *Reader) (records []Record, err error) {
	for {
		rec, err := r.Next()
		if err == io.EOF {
			return records, nil
		}
		if err != nil {
			return records, err
		}
		records = append(records, rec)
	}
}

func TestReadExample(t *testing.T) {
	r, err := NewReader(bytes.NewReader(zip(t, example(t))))
	if err != nil {
		t.Fatal(err)
	}
	want := Header{Program: "example", Threads: 2, Ops: 5, PeakLiveBytes: 308, PeakLiveBlocks: 3, TotalBytes: 413}
	if r.Header() != want {
		t.Errorf("header is %+v, want %+v", r.Header(), want)
	}
	got, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, exampleRecords) {
		t.Errorf("got  %+v\nwant %+v", got, exampleRecords)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("after the end: %v, want io.EOF again", err)
	}
}

func TestWriteExample(t *testing.T) {
	var file bytes.Buffer
	w, err := NewWriter(&file, "example")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range exampleRecords {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	h, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if h.String() != exampleHeader {
		t.Errorf("header is\n%v, want\n%s", h, exampleHeader)
	}
	z, err := gzip.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if want := example(t); !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestHeaderMayHaveMoreKeys(t *testing.T) {
	in := plain(t, strings.Replace(exampleHeader, "threads", "colour=blue threads", 1)+" more=1", exampleHex)
	r, err := newPlainReader(bytes.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readAll(r); err != nil || len(got) != 5 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestEmptyTraceAndEmptyBlocks(t *testing.T) {
	for _, c := range []struct {
		header, records string
		want            []Record
	}{
		{"program=p threads=0 ops=0 peak_live_bytes=0 peak_live_blocks=0 total_bytes=0", "", nil},
		{
			"program=p threads=1 ops=3 peak_live_bytes=7 peak_live_blocks=1 total_bytes=7", "000000 02000107 010001",
			[]Record{{Op: Alloc}, {Op: Realloc, Size: 7}, {Op: Free}},
		},
	} {
		r, err := newPlainReader(bytes.NewReader(plain(t, c.header, c.records)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAll(r)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("got %+v, %v, want %+v", got, err, c.want)
		}
	}
}

// Each is the example with something wrong. A record of -1 stands for the whole
// file.
func TestMalformed(t *testing.T) {
	header := func(old, new string) string { return strings.Replace(exampleHeader, old, new, 1) }
	for _, c := range []struct {
		name   string
		in     []byte
		record int
		reason string
	}{
		{"empty", nil, -1, "begins with"},
		{"other magic", []byte("pymtrace 2\n" + exampleHeader + "\n"), -1, `"pymtrace 2\n"`},
		{"short magic", []byte("pym"), -1, `"pym"`},
		{"no header", []byte(magic), -1, "header"},
		{"header without an end", []byte(magic + exampleHeader), -1, "header"},
		{"long header", []byte(magic + exampleHeader + " x=" + strings.Repeat("y", 1<<17) + "\n"), -1, "header"},
		{"no pair", plain(t, header("program=", "program "), exampleHex), -1, `"program"`},
		{"two =", plain(t, header("=example", "=a=b"), exampleHex), -1, `"program=a=b"`},
		{"missing key", plain(t, header("ops=5 ", ""), exampleHex), -1, "ops is missing"},
		{"missing program", plain(t, header("program=example ", ""), exampleHex), -1, "program is missing"},
		{"no number", plain(t, header("ops=5", "ops=five"), exampleHex), -1, `ops is "five"`},
		{"negative number", plain(t, header("ops=5", "ops=-5"), exampleHex), -1, `ops is "-5"`},
		{"huge number", plain(t, header("ops=5", "ops=99999999999999999999"), exampleHex), -1, "ops is"},
		{"fewer records than promised", plain(t, header("ops=5", "ops=6"), exampleHex), -1, "ops=6"},
		{"more records than promised", plain(t, header("ops=5", "ops=4"), exampleHex), 4, "promises 4"},
		{"other peak", plain(t, header("=308", "=309"), exampleHex), -1, "peak_live_bytes=309"},
		{"other peak of blocks", plain(t, header("blocks=3", "blocks=4"), exampleHex), -1, "peak_live_blocks=4"},
		{"other total", plain(t, header("=413", "=412"), exampleHex), -1, "total_bytes=412"},
		{"fewer threads than promised", plain(t, header("threads=2", "threads=3"), exampleHex), -1, "threads=3"},
		{"more threads than promised", plain(t, header("threads=2", "threads=1"), exampleHex), 3, "thread 1"},
		{"unknown op", plain(t, exampleHeader, "0000ac02 05"), 1, "0x5"},
		{"op is the last byte", plain(t, exampleHeader, "0000ac02 04"), 1, "thread: unexpected EOF"},
		{"cut in a varint", plain(t, exampleHeader, "0000ac"), 0, "size: unexpected EOF"},
		{"cut between fields", plain(t, exampleHeader, "0000ac02 0400"), 1, "size: unexpected EOF"},
		{"varint of 11 bytes", plain(t, exampleHeader, "0000 8080808080808080808001"), 0, "overflow"},
		{"varint of 65 bits", plain(t, exampleHeader, "0000 ffffffffffffffffff02"), 0, "overflow"},
		{"size of 64 bits", plain(t, exampleHeader, "0000 ffffffffffffffffff01"), 0, "size 18446744073709551615"},
		{"sizes that add up to 64 bits", plain(t, exampleHeader, "0000 ffffffffffffffff7f 000001"), 1, "add up"},
		{"thread out of turn", plain(t, header("threads=2", "threads=3"), "0002ac02"), 0, "thread 2"},
		{"huge thread", plain(t, exampleHeader, "00 ffffffffffffffffff01 01"), 0, "thread 18446744073709551615"},
		{"delta 0", plain(t, exampleHeader, "0000ac02 010000"), 1, "delta 0"},
		{"delta beyond the first block", plain(t, exampleHeader, "0000ac02 010002"), 1, "delta 2"},
		{"delta before any block", plain(t, exampleHeader, "010001"), 0, "delta 1"},
		{"huge delta", plain(t, exampleHeader, "0000ac02 0100 ffffffffffffffffff01"), 1, "delta 18446744073709551615"},
		{"free of a dead block", plain(t, exampleHeader, "0000ac02 010001 010001"), 2, "free already"},
		{"realloc of a dead block", plain(t, exampleHeader, "0000ac02 010001 02000105"), 2, "free already"},
		{"realloc to 0", plain(t, exampleHeader, "0000ac02 02000100"), 1, "size 0"},
		{"alignment 0", plain(t, exampleHeader, "03006400"), 0, "alignment 0"},
		{"alignment 48", plain(t, exampleHeader, "03006430"), 0, "alignment 48"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := newPlainReader(bytes.NewReader(c.in))
			if err == nil {
				_, err = readAll(r)
			}
			var bad *FormatError
			if !errors.As(err, &bad) {
				t.Fatalf("got %v, want a FormatError", err)
			}
			if bad.Record != c.record || !strings.Contains(bad.Error(), c.reason) {
				t.Errorf("got record %d, %q, want record %d and %q", bad.Record, bad, c.record, c.reason)
			}
			if r != nil {
				if _, again := r.Next(); again != err {
					t.Errorf("the next call gives %v, want the same again", again)
				}
			}
		})
	}
}

func TestBadGzip(t *testing.T) {
	file := zip(t, example(t))
	wrongSum := bytes.Clone(file)
	wrongSum[len(wrongSum)-5] ^= 1
	for name, in := range map[string][]byte{
		"no gzip": example(t), "empty": nil, "cut": file[:len(file)-9], "cut checksum": file[:len(file)-3], "wrong checksum": wrongSum,
	} {
		r, err := NewReader(bytes.NewReader(in))
		if err == nil {
			_, err = readAll(r)
		}
		var bad *FormatError
		if !errors.As(err, &bad) {
			t.Errorf("%s: got %v, want a FormatError", name, err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	for _, program := range []string{"", "a b", "a=b", "a\n"} {
		if _, err := NewWriter(io.Discard, program); err == nil {
			t.Errorf("program %q is taken", program)
		}
	}
	for _, r := range []Record{
		{Op: Alloc, Block: 1},
		{Op: Alloc, Thread: 1},
		{Op: Alloc, Thread: -1},
		{Op: Free},
		{Op: Free, Block: -1},
		{Op: Realloc, Size: 1},
		{Op: AllocAligned, Align: 3},
		{Op: numOps},
		{Op: Alloc, Size: 1 << 63},
	} {
		w, err := NewWriter(io.Discard, "p")
		if err != nil {
			t.Fatal(err)
		}
		if w.Write(r) == nil {
			t.Errorf("%+v is taken as a first record", r)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var records []Record
	var live []int
	made, threads := 0, 1
	for range 5000 {
		r := Record{Thread: rnd.IntN(min(threads+1, 9))}
		threads = max(threads, r.Thread+1)
		if len(records) == 0 {
			r.Thread = 0
		}
		size := rnd.Uint64() >> (24 + rnd.IntN(40))
		switch at := len(live); {
		case at > 0 && rnd.IntN(3) == 0:
			at = rnd.IntN(at)
			r.Op, r.Block = Free, live[at]
			live = slices.Delete(live, at, at+1)
		case at > 0 && rnd.IntN(4) == 0:
			r.Op, r.Block, r.Size = Realloc, live[rnd.IntN(at)], size+1
		default:
			r.Op, r.Block, r.Size = Alloc, made, size
			if k := rnd.IntN(3); k == 1 {
				r.Op = Calloc
			} else if k == 2 {
				r.Op, r.Align = AllocAligned, 1<<rnd.IntN(20)
			}
			live = append(live, made)
			made++
		}
		records = append(records, r)
	}
	// Threads are numbered as they appear.
	seen := map[int]int{}
	for i := range records {
		n, ok := seen[records[i].Thread]
		if !ok {
			n = len(seen)
			seen[records[i].Thread] = n
		}
		records[i].Thread = n
	}
	var file bytes.Buffer
	w, err := NewWriter(&file, "random")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	h, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	if r.Header() != h {
		t.Errorf("header is %v, want %v", r.Header(), h)
	}
	got, err := readAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, records) {
		t.Error("the records differ from those written")
	}
}

// FuzzReader reads anything without a crash, and what it accepts it writes back
// as the same records.
func FuzzReader(f *testing.F) {
	f.Add(example(f))
	f.Add(plain(f, "program=p threads=0 ops=0 peak_live_bytes=0 peak_live_blocks=0 total_bytes=0", ""))
	f.Add(plain(f, "program=p threads=1 ops=3 peak_live_bytes=7 peak_live_blocks=1 total_bytes=7", "000000 02000107 010001"))
	f.Add(plain(f, exampleHeader, "0000ac02 010001 010001"))
	f.Add(plain(f, exampleHeader, "0000 ffffffffffffffffff01"))
	f.Add([]byte("pymtrace 1\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := newPlainReader(bytes.NewReader(in))
		if err != nil {
			return
		}
		records, err := readAll(r)
		var bad *FormatError
		if err != nil {
			if !errors.As(err, &bad) || bad.Record >= 0 && bad.Record != len(records) {
				t.Fatalf("after %d records: %v", len(records), err)
			}
			return
		}
		var file bytes.Buffer
		w, err := NewWriter(&file, "again")
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			if err := w.Write(rec); err != nil {
				t.Fatalf("read but not written: %v", err)
			}
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r2, err := NewReader(&file)
		if err != nil {
			t.Fatal(err)
		}
		again, err := readAll(r2)
		if err != nil || !slices.Equal(again, records) {
			t.Fatalf("records differ after a round trip: %v", err)
		}
	})
}
