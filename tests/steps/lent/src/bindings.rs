//! The bindings that `wit-bindgen` makes of `wit/lent.wit`; nothing here is written by hand.
#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::pedantic,
    reason = "generated code"
)]

wit_bindgen::generate!({ path: "wit", world: "lent", generate_all });
