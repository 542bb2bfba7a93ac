//! The host side of `wit/step.wit`, made by `wasmtime`'s `bindgen!` for the largest world: a component that imports less is
//! given less.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "step-exec-fetch",
    imports: { default: trappable },
    trappable_error_type: {
        "pipe:step/types.failure" => super::host::Failure,
    },
    with: {
        "pipe:step/store.blob": super::host::handles::Blob,
        "pipe:step/store.tree": super::host::handles::Tree,
        "pipe:step/store.blob-writer": super::host::handles::Writer,
        "pipe:step/store.tree-builder": super::host::handles::Builder,
        "pipe:step/exec.command": super::host::handles::Command,
        "pipe:step/exec.outcome": super::host::handles::Outcome,
    },
});
