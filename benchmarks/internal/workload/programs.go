package workload

import (
	"errors"
	"math/bits"
	"unsafe"
)

// Sizes of what is drawn, and lengths of programs at scale 1, stand in both
// languages: a change here is one in workload.c.

func pair(r *run) {
	r.each(1, func(t *thread) {
		for range r.steps(10_000_000) {
			p := t.malloc(64)
			*(*byte)(p) = 1
			t.free(p)
		}
	})
}

func batchOf256(r *run) {
	const blocks = 256
	r.each(1, func(t *thread) {
		var sizes, order [blocks]int
		for i := range blocks {
			sizes[i], order[i] = 16+t.below(497), i
		}
		for i := range blocks {
			j := t.below(blocks)
			order[i], order[j] = order[j], order[i]
		}
		slots := t.pointers(blocks)
		for range r.steps(20_000) {
			for i := range blocks {
				slots[i] = t.malloc(sizes[i])
			}
			for _, i := range order {
				t.free(slots[i])
			}
		}
		t.release(slots)
	})
}

func allocTest(r *run) {
	r.each(r.threads, func(t *thread) {
		slots := t.pointers(1 << 18 / r.threads)
		sizes := make([]uint16, len(slots))
		for i := range len(slots) / 2 {
			t.allocTestFill(slots, sizes, 2*i)
		}
		for range r.share(2_000_000) {
			// The first fifth gets four fifths of the visits, in seven bands.
			n := len(slots)
			for band := 0; band < 7 && t.below(5) != 0; band++ {
				n = max(n/5, 1)
			}
			i := t.below(n)
			if slots[i] == nil {
				t.allocTestFill(slots, sizes, i)
				continue
			}
			t.sum += sumWords(slots[i], int(sizes[i]))
			t.drop(&slots[i])
		}
		t.dropAll(slots)
	})
}

func (t *thread) allocTestFill(slots []unsafe.Pointer, sizes []uint16, i int) {
	x := t.next()
	log := bits.TrailingZeros64(x&127+1) + 2
	size := 1<<log + 1 + int(x>>32)&(1<<log-1)
	slots[i], sizes[i] = t.malloc(size), uint16(size)
	fill(slots[i], size, byte(i))
}

// dropAll frees all blocks of a table, and gives it back.
func (t *thread) dropAll(slots []unsafe.Pointer) {
	for i := range slots {
		t.drop(&slots[i])
	}
	t.release(slots)
}

func larson(r *run) {
	const slots, steps = 5000, 250_000
	tables := make([][]unsafe.Pointer, r.threads)
	r.each(r.threads, func(t *thread) {
		tables[t.id] = t.pointers(slots)
		for i := range tables[t.id] {
			tables[t.id][i] = t.malloc(8 + t.below(992))
		}
	})
	// A generation of threads after another: each has the blocks of its forerunner.
	r.each(r.threads, func(parent *thread) {
		for generation := range r.share(8) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				r.thread(parent.id+r.threads*(generation+1), func(t *thread) {
					for range steps {
						slot := &tables[parent.id][t.below(slots)]
						t.drop(slot)
						size := 8 + t.below(992)
						*slot = t.malloc(size)
						*(*byte)(*slot) = 'a'
						*(*byte)(unsafe.Add(*slot, size-1)) = 'b'
					}
				})
			}()
			<-done
		}
		parent.dropAll(tables[parent.id])
	})
}

func mstress(r *run) {
	transfer := shared(r.pointers(1000))
	for round := range r.steps(25) {
		r.each(r.threads, func(t *thread) {
			t.rand = rand(round*1000 + t.id)
			t.mstress(transfer)
		})
	}
	r.thread(0, func(t *thread) { t.mstressDrop(transfer) })
}

// mstressMalloc returns a block of words that know how many they are.
func (t *thread) mstressMalloc(words int) unsafe.Pointer {
	switch x := t.below(10_000); {
	case x == 0:
		words *= 1000
	case x < 100:
		words *= 100
	}
	words++
	p := t.calloc(words * 8)
	w := unsafe.Slice((*uint64)(p), words)
	for i := range w {
		w[i] = uint64(words) ^ uint64(i)
	}
	return p
}

// mstressFree checks the words of the block, and frees it.
func (t *thread) mstressFree(p unsafe.Pointer) {
	if p == nil {
		return
	}
	words := *(*uint64)(p)
	for i, w := range unsafe.Slice((*uint64)(p), int(words)) {
		if w != words^uint64(i) {
			t.failed(errContent)
			break
		}
	}
	t.free(p)
}

func (t *thread) mstressDrop(slots []unsafe.Pointer) {
	for i := range slots {
		t.mstressFree(slots[i])
		slots[i] = nil
	}
	t.release(slots)
}

func (t *thread) mstress(transfer shared) {
	allocs := 5000 * (t.id%8 + 1)
	data, kept := t.pointers(allocs), t.pointers(allocs/2)
	nkept := 0
	for i := range allocs {
		if t.below(2) == 0 || nkept == len(kept) {
			data[i] = t.mstressMalloc(1 << t.below(5))
		} else {
			kept[nkept] = t.mstressMalloc(1 << t.below(7))
			nkept++
		}
		if t.below(100) < 66 {
			j := t.below(i + 1)
			t.mstressFree(data[j])
			data[j] = nil
		}
		if t.below(100) < 25 {
			j := t.below(i + 1)
			data[j] = transfer.swap(t.below(len(transfer)), data[j])
		}
	}
	t.mstressDrop(data)
	t.mstressDrop(kept)
}

// batch is blocks on their way to another thread.
type batch []unsafe.Pointer

func rptest(r *run) {
	const slots, send = 1000, 100
	mail := make([]chan batch, r.threads)
	for i := range mail {
		mail[i] = make(chan batch, 64)
	}
	r.each(r.threads, func(t *thread) {
		table := t.pointers(slots)
		aligns := [...]int{0, 8, 16}
		for loop := range r.share(400) {
			// A prime stride visits all slots, in an order of its own.
			for i, at := 0, t.below(slots); i < slots/2; i, at = i+1, (at+277)%slots {
				t.drop(&table[at])
				size := 8 + min(t.below(15_993), t.below(15_993))
				if align := aligns[t.below(3)]; align == 0 {
					table[at] = t.malloc(size)
				} else {
					table[at] = t.alignedMalloc(size, align)
				}
				touch(table[at], size)
			}
			t.rptestReceive(mail[t.id])
			if loop%2 == 0 {
				b := batch(t.pointers(send))
				at := t.below(slots - send)
				copy(b, table[at:at+send])
				clear(table[at : at+send])
				select {
				case mail[(t.id+1)%r.threads] <- b:
				default: // it is busy: they are freed here
					t.dropAll(b)
				}
			}
		}
		t.dropAll(table)
	})
	r.thread(0, func(t *thread) {
		for _, m := range mail {
			t.rptestReceive(m)
		}
	})
}

func (t *thread) rptestReceive(mail chan batch) {
	for {
		select {
		case b := <-mail:
			t.dropAll(b)
		default:
			return
		}
	}
}

func sh6bench(r *run) {
	const ring, window = 16_384, 4096
	r.each(r.threads, func(t *thread) {
		slots := t.pointers(ring)
		at := 0
		for range r.share(30) {
			for size := 1000; size >= 1; size /= 2 {
				for range window {
					t.drop(&slots[at])
					slots[at] = t.malloc(size)
					*(*byte)(slots[at]) = byte(size)
					at = (at + 1) % ring
				}
				// A window behind goes first to last, the one before it last to first.
				for i := range window {
					t.drop(&slots[(at+ring-3*window+i)%ring])
				}
				for i := range window {
					t.drop(&slots[(at+ring-3*window-1-i)%ring])
				}
			}
		}
		t.dropAll(slots)
	})
}

// sh8Sizes is a histogram: of a hundred blocks so many have up to so many bytes.
var sh8Sizes = []struct{ percent, bytes int }{
	{40, 32}, {65, 64}, {80, 128}, {88, 256}, {93, 512}, {96, 1024}, {98, 4096}, {99, 16_384}, {100, 168_524},
}

func sh8bench(r *run) {
	const slots = 8192
	r.each(r.threads, func(t *thread) {
		table := t.pointers(slots)
		for range r.share(800_000) {
			slot := &table[t.below(slots)]
			t.drop(slot)
			x, from := t.below(100), 8
			for _, h := range sh8Sizes {
				if x < h.percent {
					size := from + t.below(h.bytes-from+1)
					*slot = t.malloc(size)
					touch(*slot, size)
					break
				}
				from = h.bytes
			}
		}
		t.dropAll(table)
	})
	// One thread's small blocks, freed by all.
	const small = 1_000_000
	table := r.pointers(small)
	r.thread(0, func(t *thread) {
		for i := range table {
			table[i] = t.malloc(8)
		}
	})
	r.each(r.threads, func(t *thread) {
		for i := t.id; i < small; i += r.threads {
			t.free(table[i])
		}
	})
	r.release(table)
}

func xmallocTest(r *run) {
	const length, size = 4096, 64
	pairs := r.threads / 2
	batches := r.steps(600) / pairs
	mail := make(chan batch, 2*pairs)
	r.each(2*pairs, func(t *thread) {
		for range batches {
			if t.id%2 == 1 {
				t.dropAll(<-mail)
				continue
			}
			b := batch(t.pointers(length))
			for i := range b {
				b[i] = t.malloc(size)
				fill(b[i], size, byte(i))
			}
			mail <- b
		}
	})
}

// cacheLoop writes an object again and again, and frees it, many times over.
func (t *thread) cacheLoop(p unsafe.Pointer, objects, writes int) {
	for range objects {
		b := (*byte)(p)
		for range writes {
			*b++
		}
		t.free(p)
		p = t.malloc(1)
		*(*byte)(p) = 0
	}
	t.free(p)
}

const cacheObjects, cacheWrites = 2000, 10_000

func cacheScratch(r *run) {
	first := r.pointers(r.threads)
	r.thread(0, func(t *thread) {
		for i := range first {
			first[i] = t.malloc(1)
			*(*byte)(first[i]) = 0
		}
	})
	r.each(r.threads, func(t *thread) { t.cacheLoop(first[t.id], r.share(cacheObjects), cacheWrites) })
	r.release(first)
}

func cacheThrash(r *run) {
	r.each(r.threads, func(t *thread) {
		p := t.malloc(1)
		*(*byte)(p) = 0
		t.cacheLoop(p, r.share(cacheObjects), cacheWrites)
	})
}

func glibcSimple(r *run) {
	r.each(1, func(t *thread) {
		slots := t.pointers(1600)
		for range r.steps(60) {
			for _, size := range []int{16, 32, 64} {
				for n := 25; n <= 1600; n *= 4 {
					for range 1600 / n {
						for i := range n {
							slots[i] = t.malloc(size)
							fill(slots[i], size, byte(i))
						}
						for i := range n / 2 {
							t.drop(&slots[i])
						}
						for i := n - 1; i >= n/2; i-- {
							t.drop(&slots[i])
						}
					}
				}
			}
		}
		t.release(slots)
	})
}

func glibcThread(r *run) {
	r.each(r.threads, func(t *thread) {
		slots := t.pointers(1024)
		for range r.share(3_000_000) {
			slot := &slots[t.below(len(slots))]
			t.drop(slot)
			// The density falls with the square of the size.
			size := min(4*65536/(1+t.below(65536)), 32_768)
			*slot = t.malloc(size)
			*(*byte)(*slot) = byte(size)
		}
		t.dropAll(slots)
	})
}

func mallocLarge(r *run) {
	const live, from, to = 20, 5 << 20, 25 << 20
	r.each(1, func(t *thread) {
		slots := t.pointers(live)
		for range r.steps(30) {
			slot := &slots[t.below(live)]
			t.drop(slot)
			size := from + t.below(to-from)
			*slot = t.malloc(size)
			touch(*slot, size)
		}
		t.dropAll(slots)
	})
}

const (
	mleakName    = "mleak"
	mleakThreads = 10
)

func mleak(r *run) {
	const slots, per, rounds = 1000, 1000, 60
	table := shared(r.pointers(slots))
	for round := range r.steps(rounds) {
		r.each(mleakThreads, func(t *thread) {
			t.rand = rand(round*1000 + t.id)
			for range per {
				p := table.swap(t.below(slots), t.calloc(128))
				if p != nil {
					t.free(p)
				}
			}
		})
	}
	r.thread(0, func(t *thread) { t.dropAll(table) })
}

// errContent is a block that changed while it was live.
var errContent = errors.New("a block's words changed while it was live")
