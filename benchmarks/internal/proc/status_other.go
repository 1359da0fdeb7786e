//go:build !linux

package proc

// PeakResident returns 0: it is not known here.
func PeakResident() uint64 { return 0 }

// Resident returns 0: it is not known here.
func Resident() uint64 { return 0 }

// BringIn does nothing here.
func BringIn() {}

// NoReserve returns 0: it is not known here.
func NoReserve() uint64 { return 0 }

// CPU returns the name of the processor.
func CPU() string { return unknownCPU }
