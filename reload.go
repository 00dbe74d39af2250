//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/timedge/timedge/auth"
	"github.com/timedge/timedge/engine"
	"github.com/timedge/timedge/internal/settings"
	"github.com/timedge/timedge/node"
)

// reloader takes up settings and files while the server runs: on SIGHUP, when an operator asks, and when the file of
// settings or that of the cluster's keys changes. (Certificates and accounts are looked at by who uses them, too.)
type reloader struct {
	engine *engine.Engine
	plan   *plan
	logs   *serverLogs

	token adminToken

	mu   sync.Mutex
	now  *given    // the settings in force
	keys node.Keys // the cluster's in force
	seen []byte    // the file's content that was looked at last
	said string    // what was wrong with other files at the last look
}

// reloadEvery is how often files are looked at.
const reloadEvery = time.Second

// run reloads until ctx ends.
func (r *reloader) run(ctx context.Context, hup <-chan os.Signal) {
	t := time.NewTicker(reloadEvery)
	defer t.Stop()
	r.mu.Lock()
	r.seen = r.content()
	if c := r.plan.engine.Cluster; c != nil {
		r.keys = c.Keys
	}
	r.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if err := r.logs.reopen(); err != nil {
				r.logs.log.Error().Err(err).Msg("a log could not be opened anew; the old one goes on")
			}
			_, _, _ = r.reload("SIGHUP")
		case <-t.C:
			if r.changed() {
				_, _, _ = r.reload("file")
			}
			r.lookAtFiles()
		}
	}
}

// content is what stands in the file of settings, whatever its time says; nil if there is none, or while it is being
// replaced.
func (r *reloader) content() []byte {
	if r.now.Config == "" {
		return nil
	}
	b, err := os.ReadFile(r.now.Config)
	if err != nil {
		return nil
	}
	return b
}

func (r *reloader) changed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.content()
	return b != nil && !slices.Equal(b, r.seen)
}

// reload reads everything again and puts it into force, if all of it is in order; else it changes nothing. It returns
// the settings that were taken up, and those that take a restart, which stay as they were until then.
func (r *reloader) reload(why string) (taken, restart []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.logs.log.With().Str("because", why).Logger()
	r.seen = r.content()
	next := &given{Config: r.now.Config, Settings: r.now.Settings}
	next.table = settingsTable(&next.serveSettings)
	if err := mistaken(next.load(), next.check()); err != nil {
		log.Error().Err(err).Msg("not reloaded: nothing has changed")
		return nil, nil, err
	}
	taken, restart = settings.Changed(r.now.values, next.values)
	// From here on nothing fails but for a file that was exchanged just now, which says so in the log.
	if err := r.engine.Reload(next.engineConfig(r.logs.log, r.plan.who, r.plan.engine.TLS)); err != nil {
		log.Error().Err(err).Msg("not reloaded: nothing has changed")
		return nil, nil, err
	}
	setLogLevel(next.LogLevel)
	boundHeap(int64(next.Memory))
	if r.plan.certs != nil {
		r.plan.certs.Reload()
	}
	var errs []error
	if who, ok := r.plan.who.(auth.Reloader); ok {
		errs = append(errs, who.Reload())
	}
	errs = append(errs, r.takeKeys(), r.takeToken())
	r.keep(next, restart)
	if err := errors.Join(errs...); err != nil {
		log.Error().Err(err).Msg("reloaded, but for this")
		return taken, restart, err
	}
	if len(restart) > 0 {
		log.Warn().Strs("settings", restart).Msg("a restart is needed for these; they stay as they were")
	}
	log.Info().Strs("settings", taken).Msg("reloaded")
	return taken, restart, nil
}

// keep makes next the settings in force, but for those that take a restart.
func (r *reloader) keep(next *given, restart []string) {
	values := slices.Clone(next.values)
	for i, v := range values {
		if slices.Contains(restart, v.Name) {
			values[i].Text, values[i].From = r.now.values[i].Text, r.now.values[i].From
		}
	}
	next.values = values
	r.now = next
}

// ending returns how long to wait before the node drains, and how long that may take.
func (r *reloader) ending() (delay, within time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now.DrainDelay, r.now.Drain
}

// takeToken puts the operators' token of its file into force.
func (r *reloader) takeToken() error {
	token, err := readAdminToken(r.plan.tokenFile)
	if err == nil && token != r.token.get() {
		r.token.text.Store(&token)
		r.logs.log.Info().Msg("the operators' token is taken up")
	}
	return err
}

// takeKeys puts the cluster's keys of their file into force.
func (r *reloader) takeKeys() error {
	if r.plan.engine.Cluster == nil {
		return nil
	}
	keys, err := node.ReadKeys(r.plan.keyFile) // its content, since a changed file may have its old time
	if err != nil || slices.Equal(keys, r.keys) {
		return err
	}
	if err := r.engine.SetClusterKeys(keys); err != nil {
		return err
	}
	r.keys = keys
	r.logs.log.Info().Int("keys", len(keys)).Msg("other cluster keys taken up")
	return nil
}

// lookAtFiles takes the cluster's keys and the operators' token up when their files change. What is not in order is
// logged once, and the old ones stay.
func (r *reloader) lookAtFiles() {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := ""
	if err := errors.Join(r.takeKeys(), r.takeToken()); err != nil {
		text = err.Error()
		if text != r.said {
			r.logs.log.Error().Err(err).Msg("not taken up; what was there stays")
		}
	}
	r.said = text
}
