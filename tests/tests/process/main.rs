//! The program as a process: command lines, signals, kills.
