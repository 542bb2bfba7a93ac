//! Domains whose certificates an authority signs: a real one, Pebble, that asks over HTTP as Let's Encrypt does, and a name
//! server that leads all names to this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pipe_tests::needs;
use tempfile::TempDir;

use super::small::{self, eventually, free_port};

/// Where the authority's own certificate is signed.
const OPENSSL: &str = r"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=root -out root.pem -keyout root.key
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -out own.csr -keyout own.key
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' >own.ext
openssl x509 -req -in own.csr -CA root.pem -CAkey root.key -CAcreateserial -days 2 -extfile own.ext -out own.pem
";

/// An authority and a name server; gone when dropped.
struct Authority {
    directory: TempDir,
    port: u16,
    children: Vec<Child>,
}

impl Authority {
    /// Begins to sign certificates that are good for so many seconds, for whoever answers at a port.
    fn start(http: u16, seconds: u64) -> Self {
        needs("/usr/bin/pebble");
        let directory = tempfile::tempdir().expect("a directory");
        let made = Command::new("sh").args(["-ec", OPENSSL]).current_dir(&directory).output().expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let (port, management, names, of_names) = (free_port(), free_port(), free_port(), free_port());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{port}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": directory.path().join("own.pem"),
            "privateKey": directory.path().join("own.key"),
            "httpPort": http,
            "tlsPort": 1,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
            "certificateValidityPeriod": seconds,
        }});
        fs::write(directory.path().join("config.json"), config.to_string()).expect("written");
        let names_at = format!("127.0.0.1:{names}");
        let mut server = Command::new("pebble-challtestsrv");
        server.args(["-defaultIPv6", "", "-defaultIPv4", "127.0.0.1", "-dns01", &names_at]);
        server.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]);
        server.args(["-management", &format!("127.0.0.1:{of_names}")]);
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(directory.path().join("config.json")).args(["-dnsserver", &names_at]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1");
        let start = |mut command: Command, name: &str| {
            let log = fs::File::create(directory.path().join(name)).expect("a log");
            command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("it starts")
        };
        let children = vec![start(server, "names.log"), start(pebble, "pebble.log")];
        for port in [port, of_names] {
            eventually("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        }
        Self { directory, port, children }
    }

    fn address(&self) -> String {
        format!("https://localhost:{}/dir", self.port)
    }

    /// Who it is, to whoever asks it.
    fn root(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("pebble.log")).unwrap_or_default()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The serial number of the certificate that is shown for a name; nothing where there is none.
fn serial(port: u16, domain: &str) -> Option<String> {
    let script = format!(
        "openssl s_client -connect 127.0.0.1:{port} -servername {domain} </dev/null 2>/dev/null | openssl x509 -noout -serial -issuer"
    );
    let output = Command::new("sh").args(["-c", &script]).output().expect("openssl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.contains("Pebble Intermediate").then_some(said)
}

fn page(port: u16, domain: &str) -> String {
    let output = Command::new("curl")
        .args(["-sk", "--resolve", &format!("{domain}:{port}:127.0.0.1"), &format!("https://{domain}:{port}/")])
        .output();
    String::from_utf8_lossy(&output.expect("curl runs").stdout).into_owned()
}

#[test]
fn certificates_are_obtained_and_renewed_without_anybody_doing_anything() {
    let (http, https) = (free_port(), free_port());
    let authority = Authority::start(http, 12);
    let project = small::project();
    let target = format!(
        r#"
[targets.staging]
driver = "local"
release = "slug"
domains = ["polls.example.org", "www.polls.example.org"]
tls = {{ acme = "{}", email = "me@example.org" }}
http = "127.0.0.1:{http}"
https = "127.0.0.1:{https}"
"#,
        authority.address()
    );
    small::release_to(&project, &target);
    let root = authority.root();
    let trusting = [("SSL_CERT_FILE", root.to_str().expect("a path"))];
    let said = project.run_with(&trusting, ["run"]).success();
    let (stdout, log) = (said.stdout + &said.stderr, authority.log());
    assert!(stdout.contains("`polls.example.org` has a certificate now"), "{stdout}\n{log}");
    assert!(stdout.contains(&format!("answers at https://polls.example.org:{https}/")), "{stdout}");
    assert_eq!(page(https, "polls.example.org"), "one");
    assert_eq!(page(https, "www.polls.example.org"), "one");

    let told = project.run(["domains", "staging", "--json"]).success().stdout;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told.as_array().map(Vec::len), Some(2), "{told}");
    assert_eq!(told[0]["domain"], "polls.example.org");
    assert_eq!(told[0]["redirects_http"], true);
    let certificate = &told[0]["certificate"];
    assert!(certificate["issuer"].as_str().is_some_and(|issuer| issuer.contains("Pebble")), "{told}");
    assert_eq!(certificate["source"]["acme"]["authority"], authority.address());
    assert!(certificate["renewal"].as_str() < certificate["valid_until"].as_str(), "{told}");

    let first = serial(https, "polls.example.org").expect("a certificate");
    eventually("it is renewed", || serial(https, "polls.example.org").is_some_and(|serial| serial != first));
    assert!(is_private(&project.home().join("agent/certificates/polls.example.org.pem")));

    // Once more, and the account and the certificates are those that are there.
    project.write("src/version", "two");
    project.run_with(&trusting, ["run"]).success();
    assert_eq!(page(https, "polls.example.org"), "two");
    assert_eq!(authority.log().matches("There are now 1 accounts in memory").count(), 1, "{}", authority.log());
    project.run(["stop", "--all"]).success();
}

#[test]
fn a_domain_that_leads_elsewhere_is_told_and_the_release_goes_on() {
    let (http, https) = (free_port(), free_port());
    // It asks where nobody answers.
    let authority = Authority::start(free_port(), 86_400);
    let (project, address) = (small::project(), free_port());
    let target = format!(
        r#"
[targets.staging]
driver = "local"
release = "slug"
address = "127.0.0.1:{address}"
domains = ["polls.example.org"]
tls = {{ acme = "{}" }}
http = "127.0.0.1:{http}"
https = "127.0.0.1:{https}"
"#,
        authority.address()
    );
    small::release_to(&project, &target);
    let root = authority.root();
    let said = project.run_with(&[("SSL_CERT_FILE", root.to_str().expect("a path"))], ["run"]).success();
    let told = said.stdout + &said.stderr;
    assert!(
        told.contains("gives no certificate for `polls.example.org`") && told.contains("it is tried again"),
        "{told}"
    );
    assert!(told.contains("does `polls.example.org` lead to this machine"), "{told}");
    assert_eq!(small::page(address), "one");
    let domains = project.run(["domains"]).success().stdout;
    assert!(domains.contains("polls.example.org  demo/staging  nobody yet"), "{domains}");
    assert!(domains.contains("gives no certificate for `polls.example.org`"), "{domains}");
    assert!(
        domains.contains("it is tried again at 2") && domains.contains("hint: does `polls.example.org`"),
        "{domains}"
    );
    let answer = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: polls.example.org"])
        .arg(format!("http://127.0.0.1:{http}/"))
        .output()
        .expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "503");
    project.run(["stop", "--all"]).success();
}

fn is_private(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).is_ok_and(|found| found.mode().trailing_zeros() >= 6)
}
