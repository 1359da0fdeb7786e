package proc

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"syscall"
)

// statm stays open, so that a reading costs about a microsecond.
var statm = sync.OnceValue(func() *os.File {
	f, err := os.Open("/proc/self/statm")
	if err != nil {
		return nil
	}
	return f
})

// Read returns the usage now.
func Read() (u Usage) {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) == nil {
		u.Faults = uint64(r.Minflt)
	}
	f := statm()
	if f == nil {
		return u
	}
	var buf [128]byte
	n, _ := f.ReadAt(buf[:], 0) // io.EOF: the file is short
	u.Virtual, u.Resident = parseStatm(buf[:n])
	return u
}

// parseStatm reads the first two numbers, which are pages.
func parseStatm(b []byte) (virtual, resident uint64) {
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, 0
	}
	page := uint64(os.Getpagesize())
	virtual, _ = strconv.ParseUint(string(fields[0]), 10, 64)
	resident, _ = strconv.ParseUint(string(fields[1]), 10, 64)
	return virtual * page, resident * page
}
