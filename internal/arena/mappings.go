package arena

import (
	"bytes"
	"io"
	"math"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pyarena/pyarena/internal/pool"
	"github.com/pyarena/pyarena/osmem"
)

// ErrMappings is returned when the process has nearly as many mappings as its system lets
// it have. Beyond that a system refuses to unmap, too, and a Go program cannot grow its heap.
var ErrMappings error = pool.Error("arena: nine tenths of the mappings that the system allows the process are in use: " +
	"raise vm.max_map_count (sysctl -w vm.max_map_count=262144), or ArenaBytes")

// Mappings counts the process's mappings that are ours: arenas, huge mappings, and the
// guards of either.
var Mappings MappingCount

// MappingCount counts mappings, up to nine tenths of what the system allows. A system makes
// one mapping of several that adjoin, so at the limit it is asked how many there are.
// Any goroutine may call its methods.
type MappingCount struct {
	n     atomic.Int64
	off   atomic.Int64 // the process had n + off mappings when the system was asked
	limit atomic.Int64 // 0: not read yet

	asking sync.Mutex
	asked  time.Time            // when it was asked
	ask    func() (int64, bool) // nil: countMaps
}

// Count returns how many mappings are ours.
func (c *MappingCount) Count() int { return int(c.n.Load()) }

// Take counts n mappings that are about to be made, or returns ErrMappings.
func (c *MappingCount) Take(n int) error {
	now := c.n.Add(int64(n))
	if limit := c.most(); n > 0 && now+c.off.Load() > limit && !c.recount(int64(n), limit) {
		c.Give(n)
		return ErrMappings
	}
	return nil
}

// Give counts n mappings that are gone.
func (c *MappingCount) Give(n int) { c.n.Add(int64(-n)) }

// recount asks the system, once in a second, and reports whether there is room for n.
func (c *MappingCount) recount(n, limit int64) bool {
	c.asking.Lock()
	defer c.asking.Unlock()
	if time.Since(c.asked) >= time.Second {
		ask := c.ask
		if ask == nil {
			ask = countMaps
		}
		if all, ok := ask(); ok {
			c.off.Store(all - c.n.Load() + n)
		}
		c.asked = time.Now()
	}
	return c.n.Load()+c.off.Load() <= limit
}

// most returns the limit.
func (c *MappingCount) most() int64 {
	limit := c.limit.Load()
	if limit == 0 {
		limit = readMost()
		c.limit.Store(limit)
	}
	return limit
}

func readMost() int64 {
	if runtime.GOOS != "linux" || osmem.OnGoHeap {
		return math.MaxInt64
	}
	limit := int64(65_530) // Linux's default
	if text, err := os.ReadFile("/proc/sys/vm/max_map_count"); err == nil {
		if n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil && n > 0 {
			limit = n
		}
	}
	return limit / 10 * 9
}

// countMaps returns how many mappings the process has.
func countMaps() (n int64, ok bool) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for {
		got, err := f.Read(buf)
		n += int64(bytes.Count(buf[:got], []byte{'\n'}))
		if err != nil {
			return n, err == io.EOF
		}
	}
}
