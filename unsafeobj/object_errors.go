package unsafeobj

import (
	"errors"
	"fmt"
	"strings"
)

// What can be wrong with the use of objects. Nothing was changed by the call that
// returns one of these.
var (
	// ErrNoObject: a zero Object or Ref was passed.
	ErrNoObject = errors.New("unsafeobj: no object: the handle is zero, or its Ref was released")
	// ErrSpace: an object was to be put into an object of another Space.
	ErrSpace = errors.New("unsafeobj: the objects are of different Spaces")
	// ErrClosed: the Space is closed, or was not made by NewSpace.
	ErrClosed = errors.New("unsafeobj: the Space is closed, or was not made by NewSpace")
	// ErrBusy: Close was called by a finaliser, a callback or a function of a Class, or
	// while one runs.
	ErrBusy = errors.New("unsafeobj: a Space is not closed while a finalizer, a callback or a class's function runs")
	// ErrReentered: a function of a Class wanted to change an object.
	ErrReentered = errors.New("unsafeobj: a class's function changes objects, in the middle of an operation")
	// ErrNotFound: no such key or value.
	ErrNotFound = errors.New("unsafeobj: not found")
	// ErrIndex: an index is out of range.
	ErrIndex = errors.New("unsafeobj: index out of range")
	// ErrTooLong: more items or bytes than an object can have, or JSON.
	ErrTooLong = errors.New("unsafeobj: object too long")
	// ErrDepth: objects are nested too deep to be compared, hashed or converted,
	// or contain themselves.
	ErrDepth = errors.New("unsafeobj: nested too deep")
	// ErrSpaces: there are as many Spaces or Types as a process can have.
	ErrSpaces = errors.New("unsafeobj: too many Spaces or Types")
	// ErrField: a Field is not of the object that is said to own it.
	ErrField = errors.New("unsafeobj: the Field is not in the object")
)

// TypeError is an object of the wrong kind.
type TypeError struct {
	Want string // kind, or what it must be: "hashable"
	Got  string // name of its Type
}

func (e *TypeError) Error() string {
	return fmt.Sprintf("unsafeobj: object is of type %s, want %s", e.Got, e.Want)
}

// CountError is an object whose count would have become negative. It reaches
// SpaceOptions.Report, or the error of Close, or is returned by what was to use a dead
// container. Without SpaceOptions.Debug it is found only while the object's block is not
// used again.
type CountError struct {
	Type string // name of its Type
	What string // such as "is released", or "is used"
}

func (e *CountError) Error() string {
	return fmt.Sprintf("unsafeobj: a %s that is dead already %s: it was released once too often", e.Type, e.What)
}

// CallbackError is a finaliser or callback that panicked. The objects are as if it
// had returned. It reaches SpaceOptions.Report, or the error of Close.
type CallbackError struct {
	Type  string // name of the object's Type
	What  string // "finalizer", "weak reference's callback", …
	Value any    // that it panicked with
	Stack []byte
}

func (e *CallbackError) Error() string {
	return fmt.Sprintf("unsafeobj: the %s of a %s panicked: %v", e.What, e.Type, e.Value)
}

// LeakError is what Close found, and freed. Objects of a Debug Space that are in
// its quarantine are not counted.
type LeakError struct {
	Objects map[string]int // how many of each Type
}

func (e *LeakError) Error() string {
	var b strings.Builder
	sep := "unsafeobj: left at Close: "
	for _, name := range sortedKeys(e.Objects) {
		fmt.Fprintf(&b, "%s%d %s", sep, e.Objects[name], name)
		sep = ", "
	}
	return b.String()
}
