package auth

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// ErrNoAccount says that a file has no line for the account.
var ErrNoAccount = errors.New("auth: no such account in the file")

// ErrAccountExists says that a file has a line for the account already.
var ErrAccountExists = errors.New("auth: the account is in the file already")

// Account is a line of a file of accounts.
type Account struct {
	Name    string
	Rights  Rights
	Expires time.Time // zero: never
}

// Add puts an account into the file, which it makes if need be, and returns the account's token: nowhere else is it
// kept. A name that is there already is ErrAccountExists. The file is replaced in one step, readable by its owner
// alone; servers take it up.
func Add(path string, a Account) (token string, err error) {
	if err := CheckAccount(a.Name); err != nil {
		return "", err
	}
	token = newToken()
	err = edit(path, func(content []byte) ([]byte, error) {
		all, err := parseAccounts(content)
		if err != nil {
			return nil, fmt.Errorf("auth: %s: %w", path, err)
		}
		if all[a.Name] != nil {
			return nil, ErrAccountExists
		}
		if len(content) > 0 && content[len(content)-1] != '\n' {
			content = append(content, '\n')
		}
		e := entry{id: Identity{Account: a.Name, Expires: a.Expires, Rights: a.Rights}, hash: sha256.Sum256([]byte(token))}
		line := e.appendLine(nil)
		if _, err := parseEntry(string(line)); err != nil { // one of the rights cannot be written
			return nil, fmt.Errorf("auth: %w", err)
		}
		return append(append(content, line...), '\n'), nil
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// Remove takes an account out of the file; ErrNoAccount if it is not there. Comments and all other lines stay as they
// are.
func Remove(path, account string) error {
	return edit(path, func(content []byte) ([]byte, error) {
		all, err := parseAccounts(content)
		if err != nil {
			return nil, fmt.Errorf("auth: %s: %w", path, err)
		}
		e := all[account]
		if e == nil {
			return nil, ErrNoAccount
		}
		lines := slices.Collect(bytes.Lines(content))
		return bytes.Join(slices.Delete(lines, e.line-1, e.line), nil), nil
	})
}

// List returns the accounts of the file, by name.
func List(path string) ([]Account, error) {
	content, err := read(path)
	if err != nil {
		return nil, err
	}
	all, err := parseAccounts(content)
	if err != nil {
		return nil, fmt.Errorf("auth: %s: %w", path, err)
	}
	list := make([]Account, 0, len(all))
	for _, e := range all {
		list = append(list, Account{e.id.Account, e.id.Rights, e.id.Expires})
	}
	slices.SortFunc(list, func(a, b Account) int { return cmp.Compare(a.Name, b.Name) })
	return list, nil
}

func read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	content, err := readFile(path, info)
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return content, nil
}

// edit replaces the content of a file in one step: whoever reads it finds the old content or the new one. The file need
// not be there. It ends up with mode 0600 and the owner that it had, so that an administrator who edits a server's file
// does not take it from the server. Processes that edit at once take turns, by a lock on the directory.
func edit(path string, change func(content []byte) ([]byte, error)) error {
	// A link stays, and what it names is replaced.
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	defer unlock()

	old, err := read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	content, err := change(old)
	if err != nil {
		return err
	}
	if err := replace(path, content); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	return nil
}

func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		d.Close()
		return nil, &fs.PathError{Op: "lock", Path: dir, Err: err}
	}
	return func() { d.Close() }, nil
}

func replace(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // of mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if info, err := os.Stat(path); err == nil {
		if was, ok := info.Sys().(*syscall.Stat_t); ok {
			if err := keepOwner(f, was); err != nil {
				return err
			}
		}
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func keepOwner(f *os.File, was *syscall.Stat_t) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if is := info.Sys().(*syscall.Stat_t); is.Uid == was.Uid && is.Gid == was.Gid {
		return nil
	}
	return f.Chown(int(was.Uid), int(was.Gid))
}
