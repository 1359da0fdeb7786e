package pool

// Damage lets a test write to fields that have no setter.
func (h *Header) Damage() (live, carved, blocks *uint32) { return &h.live, &h.carved, &h.blocks }
