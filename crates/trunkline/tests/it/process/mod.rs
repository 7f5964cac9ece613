//! The program as a process: first run, signals, reload, TLS.
