package trace

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxHeaderBytes bounds the header line.
const maxHeaderBytes = 4096

// Reader reads a trace, record by record, and refuses what breaks the format.
type Reader struct {
	in     *bufio.Reader
	header Header
	ledger ledger
	err    error // the last answer of Next, repeated
}

// NewReader reads the magic and the header of a NAME.trace.gz.
func NewReader(r io.Reader) (*Reader, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, &FormatError{-1, "not a gzip stream: " + err.Error()}
	}
	return newPlainReader(z)
}

// newPlainReader reads a decompressed trace.
func newPlainReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 1<<16)}
	var got [len(magic)]byte
	if n, err := io.ReadFull(r.in, got[:]); err != nil || string(got[:]) != magic {
		return nil, &FormatError{-1, fmt.Sprintf("begins with %q, want %q", got[:n], magic)}
	}
	line, err := r.in.ReadSlice('\n')
	if err != nil || len(line) > maxHeaderBytes {
		return nil, &FormatError{-1, "no header line of sane length"}
	}
	if r.header, err = parseHeader(strings.TrimSuffix(string(line), "\n")); err != nil {
		return nil, err
	}
	return r, nil
}

// parseHeader reads the pairs that it knows, and wants all of those.
func parseHeader(line string) (h Header, err error) {
	var threads, ops uint64
	numbers := map[string]*uint64{
		"threads": &threads, "ops": &ops, "peak_live_bytes": &h.PeakLiveBytes,
		"peak_live_blocks": &h.PeakLiveBlocks, "total_bytes": &h.TotalBytes,
	}
	named := false
	for pair := range strings.SplitSeq(line, " ") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || strings.Contains(value, "=") {
			return h, &FormatError{-1, fmt.Sprintf("header: %q is no key=value", pair)}
		}
		if key == "program" && !named {
			h.Program, named = value, true
			continue
		}
		p, ok := numbers[key]
		if !ok {
			continue
		}
		if *p, err = strconv.ParseUint(value, 10, 63); err != nil {
			return h, &FormatError{-1, fmt.Sprintf("header: %s is %q, want a decimal number", key, value)}
		}
		delete(numbers, key)
	}
	for key := range numbers {
		return h, &FormatError{-1, fmt.Sprintf("header: %s is missing", key)}
	}
	if !named {
		return h, &FormatError{-1, "header: program is missing"}
	}
	h.Threads, h.Ops = int(threads), int(ops)
	if uint64(h.Threads) != threads || uint64(h.Ops) != ops {
		return h, &FormatError{-1, "header: more records than this system can count"}
	}
	return h, nil
}

// Header returns what the file says about its records. It is known to be true
// only once Next has returned io.EOF.
func (r *Reader) Header() Header { return r.header }

// Next returns the next record. At the end of a file that is as its header says
// the error is io.EOF; otherwise it is a [*FormatError].
func (r *Reader) Next() (Record, error) {
	if r.err != nil {
		return Record{}, r.err
	}
	var rec Record
	if rec, r.err = r.next(); r.err != nil {
		return Record{}, r.err
	}
	if reason := r.ledger.enter(rec); reason != "" {
		r.err = r.errorf("%s", reason)
		return Record{}, r.err
	}
	return rec, nil
}

func (r *Reader) next() (rec Record, err error) {
	op, err := r.in.ReadByte()
	if err == io.EOF {
		return rec, r.finish()
	}
	if err != nil {
		return rec, r.errorf("op: %v", err)
	}
	rec.Op = Op(op)
	if rec.Op >= numOps {
		return rec, r.errorf("op byte %#x is unknown", op)
	}
	if r.ledger.sum.Ops == r.header.Ops {
		return rec, r.errorf("the header promises %d records, and here is one more", r.header.Ops)
	}
	var fields [3]uint64
	names := [numOps][]string{
		{"thread", "size"},
		{"thread", "delta"},
		{"thread", "delta", "size"},
		{"thread", "size", "align"},
		{"thread", "size"},
	}[rec.Op]
	for i, name := range names {
		if fields[i], err = binary.ReadUvarint(r.in); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return rec, r.errorf("%v: %s: %v", rec.Op, name, err)
		}
	}
	if fields[0] >= uint64(r.header.Threads) {
		return rec, r.errorf("%v: thread %d: the header promises %d", rec.Op, fields[0], r.header.Threads)
	}
	rec.Thread = int(fields[0])
	next := r.ledger.blocks()
	if rec.Op.Makes() {
		rec.Block, rec.Size, rec.Align = next, fields[1], fields[2]
		return rec, nil
	}
	if delta := fields[1]; delta < 1 || delta > uint64(next) {
		return rec, r.errorf("%v: delta %d: it is between 1 and %d, the blocks made so far", rec.Op, delta, next)
	}
	rec.Block, rec.Size = next-int(fields[1]), fields[2]
	return rec, nil
}

// finish compares the header to the records.
func (r *Reader) finish() error {
	sum := r.ledger.sum
	sum.Program = r.header.Program
	if sum != r.header {
		return &FormatError{-1, fmt.Sprintf("the header says %v, and the records are %v", r.header, sum)}
	}
	return io.EOF
}

func (r *Reader) errorf(format string, args ...any) error {
	return &FormatError{r.ledger.sum.Ops, fmt.Sprintf(format, args...)}
}
