//! What Django raises on a page that is an error, asked in a process of its own: an application writes that where `LOGGING`
//! says, which is a mail by default. Knows nothing of how a program is run.

use super::super::health::{Healthy, Tls};
use crate::shell::quoted;

/// Asks for a page as `manage.py` has set Django up.
const SCRIPT: &str = r#"
import runpy, sys
host, scheme, path = sys.argv[1:]
asks = """
import traceback
from django.conf import settings
from django.test import Client
settings.ALLOWED_HOSTS, settings.DEBUG_PROPAGATE_EXCEPTIONS = ["*"], True
try: Client().get(%r, HTTP_HOST=%r, secure=%r)
except Exception: traceback.print_exc()
"""
sys.argv = ["manage.py", "shell", "-c", asks % (path, host, scheme == "https")]
runpy.run_path("manage.py", run_name="__main__")
"#;

/// The command that asks for a page, for a shell where `manage.py` is.
pub(super) fn command(page: &Healthy) -> String {
    let scheme = if page.tls == Tls::NotWanted { "http" } else { "https" };
    let words = [page.host.as_str(), scheme, page.path.as_str()].map(quoted);
    format!("exec python -c '{SCRIPT}' {}", words.join(" "))
}

/// Whether an output tells what was raised.
pub(super) fn is_traceback(output: &str) -> bool {
    output.contains("Traceback (most recent call last)")
}
