//! A real browser, told what to do by WebDriver (W3C), over HTTP. Knows nothing of what it is shown.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

const BROWSER: &str = "/usr/bin/chromium";
const DRIVER: &str = "/usr/bin/chromedriver";

/// Without a screen, a profile of before, or anything that it does on its own account.
const ARGUMENTS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// One window. Gone when dropped, with all its processes.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts one.
    pub fn start() -> Self {
        crate::needs(DRIVER);
        let profile = tempfile::tempdir().expect("a directory");
        let port = crate::free_port();
        let driver = Command::new(DRIVER)
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .spawn()
            .expect("the browser's driver starts");
        let data = format!("--user-data-dir={}", profile.path().display());
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        crate::eventually("the browser's driver listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let arguments: Vec<&str> = ARGUMENTS.into_iter().chain([&*data]).collect();
        let options = json!({ "binary": BROWSER, "args": arguments });
        let begun = browser.ask(
            "POST",
            "session",
            &json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } }),
        );
        begun["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    /// Goes to a page, and waits until all is there that it asks for at once.
    pub fn open(&self, url: &str) {
        self.ask("POST", &format!("session/{}/url", self.session), &json!({ "url": url }));
    }

    /// What an asynchronous function with this body returns in the page.
    pub fn run(&self, body: &str) -> Value {
        let script = format!("return (async () => {{ {body} }})()");
        self.ask("POST", &format!("session/{}/execute/sync", self.session), &json!({ "script": script, "args": [] }))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut curl = Command::new("curl")
            .args([
                "-sS",
                "--noproxy",
                "*",
                "-X",
                method,
                "-H",
                "Content-Type: application/json",
                "--data-binary",
                "@-",
            ])
            .arg(format!("http://127.0.0.1:{}/{path}", self.port))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("curl starts");
        curl.stdin.take().expect("a pipe").write_all(body.to_string().as_bytes()).expect("written");
        let answer = curl.wait_with_output().expect("curl ends").stdout;
        let answer: Value = serde_json::from_slice(&answer).expect("an answer of the driver");
        assert!(answer["value"].get("error").is_none(), "{path}: {answer}");
        answer["value"].clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A test that has failed is about something else.
        if !thread::panicking() {
            self.ask("DELETE", &format!("session/{}", self.session), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
