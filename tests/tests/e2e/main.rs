//! End to end on loopback: the real agent against the real emulator, the clock stepped by hand.
mod main_path;
