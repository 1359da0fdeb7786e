package trace

import (
	"io"
	"maps"
	"slices"
)

// Cut copies ops records from r to w, after the first skip of them. Blocks that
// are live at that point are made first, in their order and with the size that they
// have got. Ids and threads are numbered anew.
func Cut(w *Writer, r *Reader, skip, ops int) error {
	c := cutter{w: w, blocks: map[int]int{}, threads: map[int]int{}}
	live := map[int]Record{} // by block: the record that would make it as it is
	for range skip {
		rec, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch rec.Op {
		case Free:
			delete(live, rec.Block)
		case Realloc:
			made := live[rec.Block]
			made.Size = rec.Size
			live[rec.Block] = made
		default:
			live[rec.Block] = rec
		}
	}
	for _, id := range slices.Sorted(maps.Keys(live)) {
		if err := c.copy(live[id]); err != nil {
			return err
		}
	}
	for range ops {
		rec, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := c.copy(rec); err != nil {
			return err
		}
	}
	return nil
}

// cutter writes records under new numbers.
type cutter struct {
	w       *Writer
	blocks  map[int]int // by id in the source
	threads map[int]int
}

func (c *cutter) copy(rec Record) error {
	thread, seen := c.threads[rec.Thread]
	if !seen {
		thread = len(c.threads)
		c.threads[rec.Thread] = thread
	}
	rec.Thread = thread
	if rec.Op.Makes() {
		id := c.w.ledger.blocks()
		c.blocks[rec.Block] = id
		rec.Block = id
	} else {
		rec.Block = c.blocks[rec.Block]
	}
	return c.w.Write(rec)
}
