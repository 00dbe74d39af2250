package engine

// live returns the configuration with what Reload has changed of it. Whatever Reload may change is read by it, every
// time anew. Any goroutine.
func (e *Engine) live() *Config { return e.lives.Load() }

// Config returns the configuration that is in force: that of Start, with what was not given filled in, and what Reload
// has changed of it. Any goroutine.
func (e *Engine) Config() Config {
	c := *e.live()
	c.Rooms = e.rooms.Config()
	return c
}

// Reload puts other bounds in force, or says what is wrong with the configuration, and changes nothing. It takes up
// how many connections, handshakes, subscriptions and publications there may be, the time for a hello, the warning
// before tokens end, the bounds on memory and on sessions' queues, the Limits, and of Rooms what room.Table.Reload
// does; all else stays as it was at Start. Sessions and rooms stay, also those that are more than there may be now: a
// bound is for who comes. Any goroutine, one at a time.
func (e *Engine) Reload(cfg Config) error {
	if err := cfg.fill(); err != nil {
		return err
	}
	next := *e.live()
	next.MaxConns, next.MaxHandshakes, next.HelloTimeout = cfg.MaxConns, cfg.MaxHandshakes, cfg.HelloTimeout
	next.QueueSession, next.MemoryBound = cfg.QueueSession, cfg.MemoryBound
	next.MaxSubsPer, next.MaxPubsPer, next.TokenWarning = cfg.MaxSubsPer, cfg.MaxPubsPer, cfg.TokenWarning
	next.Limits = cfg.Limits
	e.lives.Store(&next)
	e.limits.reload(&next.Limits)
	e.rooms.Reload(cfg.Rooms)
	return nil
}
