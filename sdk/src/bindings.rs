//! The bindings that `wit-bindgen` makes of `wit/step.wit`; nothing here is written by hand.
//!
//! They are those of the largest world: a component imports only the interfaces that it calls.
#![allow(missing_docs, unsafe_code, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]

wit_bindgen::generate!({
    path: "../wit",
    world: "step-exec-fetch",
    pub_export_macro: true,
    export_macro_name: "export_step",
    default_bindings_module: "pipe_sdk",
});
