package trace

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// Writer makes a trace. The header stands first in the file and is known last,
// so the records wait in memory until Close.
type Writer struct {
	out     io.Writer
	program string
	body    bytes.Buffer
	ledger  ledger
}

// NewWriter returns a writer of a NAME.trace.gz for the named program.
func NewWriter(out io.Writer, program string) (*Writer, error) {
	if program == "" || strings.ContainsAny(program, " =\n") {
		return nil, fmt.Errorf("trace: the program's name %q is empty or holds a space, = or a line end", program)
	}
	return &Writer{out: out, program: program}, nil
}

// Write adds a record. The id of a new block must be the next one.
func (w *Writer) Write(r Record) error {
	next := w.ledger.blocks()
	if reason := w.ledger.enter(r); reason != "" {
		return &FormatError{w.ledger.sum.Ops, reason}
	}
	b := w.body.AvailableBuffer()
	b = append(b, byte(r.Op))
	b = binary.AppendUvarint(b, uint64(r.Thread))
	if !r.Op.Makes() {
		b = binary.AppendUvarint(b, uint64(next-r.Block))
	}
	if r.Op != Free {
		b = binary.AppendUvarint(b, r.Size)
	}
	if r.Op == AllocAligned {
		b = binary.AppendUvarint(b, r.Align)
	}
	w.body.Write(b)
	return nil
}

// Close writes the file, and returns its header.
func (w *Writer) Close() (Header, error) {
	h := w.ledger.sum
	h.Program = w.program
	z, err := gzip.NewWriterLevel(w.out, gzip.BestCompression)
	if err != nil {
		return h, err
	}
	if _, err := fmt.Fprintf(z, "%s%v\n", magic, h); err != nil {
		return h, err
	}
	if _, err := w.body.WriteTo(z); err != nil {
		return h, err
	}
	return h, z.Close()
}
