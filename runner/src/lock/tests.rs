//! Resolving real projects, against a directory of wheels that the tests write: no network.

use super::*;

#[test]
fn paths_of_this_machine_are_left_out() {
    let text = "a = 1\nwheels = [{ url = \"file:///home/me/wheels/x-1%2Bours-py3-none-any.whl\", hashes = {} }]\n";
    assert_eq!(portable(text), "a = 1\nwheels = [{ name = \"x-1+ours-py3-none-any.whl\", hashes = {} }]\n");
}
