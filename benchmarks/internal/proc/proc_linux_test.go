package proc

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pyarena/pyarena/benchmarks/internal/offheap"
)

func TestReadSeesMemory(t *testing.T) {
	const size = 32 << 20
	b, err := offheap.Slice[byte](size) // never resident before
	if err != nil {
		t.Fatal(err)
	}
	before, apart := Read(), NoReserve()
	for i := 0; i < size; i += 4096 {
		b[i] = 1
	}
	after := Read()
	if grown := int64(NoReserve() - apart); grown < size || grown > size+size/8 {
		t.Errorf("%d bytes more are resident of osmem's after %d were touched", grown, size)
	}
	if grown := int64(after.Resident - before.Resident); grown < size/2 {
		t.Errorf("%d bytes more are resident after %d were touched", grown, size)
	}
	if after.Virtual < after.Resident {
		t.Errorf("%d bytes are resident of %d in all", after.Resident, after.Virtual)
	}
	if after.Faults <= before.Faults {
		t.Errorf("%d faults after %d", after.Faults, before.Faults)
	}
}

func TestParseStatm(t *testing.T) {
	page := uint64(os.Getpagesize())
	for text, want := range map[string][2]uint64{
		"1000 300 100 7 0 20 0\n": {1000 * page, 200 * page},
		"1000 300 100":            {1000 * page, 200 * page},
		"1000 100 300 7\n":        {1000 * page, 0},
		"1000":                    {1000 * page, 0},
		"":                        {},
	} {
		if virtual, resident := parseStatm([]byte(text)); virtual != want[0] || resident != want[1] {
			t.Errorf("%q: %d virtual and %d resident, want %d", text, virtual, resident, want)
		}
	}
}

func TestBringIn(t *testing.T) {
	const size = 16 << 20
	f, err := os.Create(filepath.Join(t.TempDir(), "mapped"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Munmap(b)
	if err := syscall.Madvise(b[:os.Getpagesize()], populateRead); err != nil {
		t.Skipf("the system cannot: %v", err)
	}
	before := Resident()
	BringIn()
	if grown := int64(Resident() - before); grown < size*3/4 {
		t.Errorf("%d bytes more are resident, of a file of %d at least", grown, size)
	}
}

func TestParseMapping(t *testing.T) {
	for line, want := range map[string][2]uintptr{
		"00400000-005a0000 r-xp 00000000 fe:00 99                         /tmp/a program\n": {0x400000, 0x5a0000},
		"7f01-7f02 rw-p 00000000 00:00 0\n":                                                 {},
		"7f01-7f02 r-xp 00000000 00:00 0 [vdso]\n":                                          {},
		"7f02-7f01 r-xp 00000000 fe:00 9 /lib/x.so\n":                                       {},
		"7f02 r-xp 00000000 fe:00 9 /lib/x.so\n":                                            {},
		"":                                                                                  {},
	} {
		begin, end, ok := parseMapping(line)
		if !ok {
			begin, end = 0, 0
		}
		if begin != want[0] || end != want[1] || ok != (want[1] != 0) {
			t.Errorf("%q: %x to %x, %v, want %x", line, begin, end, ok, want)
		}
	}
}

func TestParseSmaps(t *testing.T) {
	const smaps = `377a6bc00000-377a6e800000 rw-p 00000000 00:00 0
Size:              45056 kB
Rss:                1600 kB
Pss:                1600 kB
VmFlags: rd wr mr mw me ac
7f1e2a000000-7f1e2a018000 rw-p 00000000 00:00 0                          [anon: nr]
Size:                 96 kB
Rss:                  76 kB
VmFlags: rd wr mr mw me nr
7f1e2a018000-7f1e3a000000 ---p 00000000 00:00 0
Rss:                   0 kB
VmFlags: mr mw me nr
7f1e48000000-7f1e48021000 rw-p 00000000 00:00 0
Rss:                   4 kB
VmFlags: rd wr mr mw me nr
`
	for text, want := range map[string]uint64{smaps: 80 << 10, "": 0, "VmFlags: nr\n\nRss: 4 kB": 0} {
		if got := noReserve(strings.NewReader(text)); got != want {
			t.Errorf("%d, want %d, of\n%s", got, want, text)
		}
	}
}
