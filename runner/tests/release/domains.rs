//! Domains at the front that all targets share: over TLS and HTTP/2, with the programs that everybody uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner::release::{self, Settings, Target, Tls};

use super::host::{Host, Slug, eventually, page, request_of};

/// A certificate of its own for some domains, and its key, in files of these names.
fn certificate(directory: &Path, name: &str, domains: &[&str]) -> Tls {
    let [certificate, key] = ["crt", "key"].map(|end| directory.join(format!("{name}.{end}")));
    let names: Vec<String> = domains.iter().map(|domain| format!("DNS:{domain}")).collect();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName={}", names.join(","))])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Tls::Files { certificate, key }
}

/// A target with domains and their certificate.
fn target(host: &Host, name: &str, domains: &[&str]) -> Target {
    let mut target = host.target(name);
    target.settings.domains = domains.iter().map(|domain| (*domain).to_owned()).collect();
    target.settings.tls = Some(certificate(host.home.path(), name, domains));
    target.settings.http = Some(host.address("http"));
    target.settings.https = Some(host.address("https"));
    target
}

fn file(target: &Target) -> PathBuf {
    match &target.settings.tls {
        Some(Tls::Files { certificate, .. }) => certificate.clone(),
        other => panic!("{other:?}"),
    }
}

/// What `curl` says of a page, for which it believes the certificate of a target.
fn curl(host: &Host, target: &Target, url: &str, options: &[&str]) -> Output {
    let (http, https) = (host.address("http").port(), host.address("https").port());
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "60", "--cacert"]).arg(file(target)).args(options);
    for domain in ["a.test", "www.a.test", "b.test", "c.test"] {
        for port in [http, https] {
            command.args(["--resolve", &format!("{domain}:{port}:127.0.0.1")]);
        }
    }
    command.arg(url.replace("HTTPS", &https.to_string()).replace("HTTP", &http.to_string()));
    command.output().expect("curl runs")
}

#[track_caller]
fn text(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The name in the certificate that is shown to who asks for a domain.
fn shown(host: &Host, domain: &str) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &host.address("https").to_string(), "-servername", domain])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = said.lines().find_map(|line| line.trim().strip_prefix("subject="));
    subject.unwrap_or_default().trim().to_owned()
}

#[test]
fn domains_of_several_targets_share_one_front_over_tls() {
    let host = Host::new();
    let (one, two) = (target(&host, "one", &["a.test", "www.a.test"]), target(&host, "two", &["B.test"]));
    let said = host.release(&one, &Slug::new("one"));
    assert_eq!(said.warnings, "");
    assert_eq!(said.up().url, format!("https://a.test:{}/", host.address("https").port()));
    host.release(&two, &Slug::new("two")).up();

    let version = ["-w", " over HTTP/%{http_version}"];
    assert_eq!(text(&curl(&host, &one, "https://a.test:HTTPS/", &version)), "one over HTTP/2");
    assert_eq!(
        text(&curl(&host, &one, "https://www.a.test:HTTPS/", &["--http1.1", version[0], version[1]])),
        "one over HTTP/1.1"
    );
    assert_eq!(text(&curl(&host, &two, "https://b.test:HTTPS/", &version)), "two over HTTP/2");
    assert_eq!(text(&curl(&host, &one, "https://a.test:HTTPS/static/css/base.0123456789ab.css", &[])), "body {}");
    assert_eq!([shown(&host, "a.test"), shown(&host, "b.test")], ["CN = one", "CN = two"]);
    // Its own address is there beside them.
    assert_eq!(page(&one, "/"), "one");

    for protocol in ["--http2", "--http1.1"] {
        let options = [protocol, "-H", "X-Forwarded-Proto: http", "-H", "Cookie: a=1"];
        let headers = text(&curl(&host, &one, "https://a.test:HTTPS/headers", &options));
        for line in ["x-forwarded-proto: https", "x-forwarded-for: 127.0.0.1", "cookie: a=1"] {
            assert!(headers.lines().any(|found| found == line), "{line} in {headers}");
        }
        assert!(headers.contains("\nhost: a.test:") || headers.starts_with("host: a.test:"), "{headers}");
        let body = format!("{}/body", host.home.path().display());
        fs::write(&body, vec![b'x'; 3_000_000]).expect("written");
        let sent = curl(&host, &one, "https://a.test:HTTPS/", &[protocol, "--data-binary", &format!("@{body}")]);
        assert_eq!(text(&sent), "3000000");
        let long = |length: usize| {
            let header = format!("x-long: {}", "0".repeat(length));
            text(&curl(&host, &one, "https://a.test:HTTPS/", &[protocol, "-H", &header, "-w", " %{http_code}"]))
        };
        assert_eq!(long(30_000), "one 200", "{protocol}");
        // Over HTTP/2 curl sends no more than 64 KiB, and what is no name is refused before it is a request.
        if protocol == "--http1.1" {
            assert_eq!(long(100_000), "the head of a request is too long\n 431");
            let nowhere = [protocol, "-H", "Host: a/b", "-o", "/dev/null", "-w", "%{http_code}"];
            assert_eq!(text(&curl(&host, &one, "https://a.test:HTTPS/", &nowhere)), "400");
        }
    }

    // What is told of them.
    let domains = release::domains(&host.place()).expect("an answer");
    let names: Vec<_> = domains.iter().map(|domain| (domain.target.as_str(), domain.domain.as_str())).collect();
    assert_eq!(names, [("one", "a.test"), ("two", "b.test"), ("one", "www.a.test")]);
    assert_eq!(domains[0].url, format!("https://a.test:{}/", host.address("https").port()));
    let certificate = domains[0].certificate.as_ref().expect("it has one");
    assert_eq!(certificate.issuer.as_deref(), Some("one"));
    assert!(certificate.is_for_it && certificate.failure.is_none() && certificate.renewal.is_none());
    assert!(certificate.valid.is_some_and(|(from, until)| until > from));

    // Without TLS everybody is sent there, and to the same page.
    let place = ["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}"];
    let sent = text(&curl(&host, &one, "http://a.test:HTTP/page?x=1", &place));
    assert_eq!(sent, format!("308 https://a.test:{}/page?x=1", host.address("https").port()));
    // Names that nobody has.
    let code = ["-o", "/dev/null", "-w", "%{http_code}", "-H", "Host: c.test"];
    assert_eq!(text(&curl(&host, &one, "http://a.test:HTTP/", &code)), "421");
    assert_eq!(text(&curl(&host, &one, "https://a.test:HTTPS/", &code)), "421");
    assert!(!curl(&host, &one, "https://c.test:HTTPS/", &["-k"]).status.success());

    // A domain has one target; and goes with it.
    let mut thief = target(&host, "thief", &["a.test"]);
    let error = host.release(&thief, &Slug::new("three")).refused();
    assert_eq!(error.to_string(), "`a.test` is a domain of `demo/one`");
    assert_eq!(text(&curl(&host, &one, "https://a.test:HTTPS/", &[])), "one");
    release::stop(&host.place(), Some(("demo".into(), "one".into()))).expect("stopped");
    assert!(!curl(&host, &one, "https://a.test:HTTPS/", &[]).status.success());
    host.release(&thief, &Slug::new("three")).up();
    assert_eq!(text(&curl(&host, &thief, "https://a.test:HTTPS/", &[])), "three");
    let before = thief.clone();
    thief.settings.domains.clear();
    thief.settings.tls = None;
    host.release(&thief, &Slug::new("three")).up();
    assert!(!curl(&host, &before, "https://a.test:HTTPS/", &["-k"]).status.success());

    // The next agent takes them over.
    let agent = host.agent().and_then(|agent| i32::try_from(agent).ok()).expect("an agent");
    kill(Pid::from_raw(agent), Signal::SIGKILL).expect("it is there");
    eventually("it comes back", || curl(&host, &two, "https://b.test:HTTPS/", &[]).status.success());
    release::stop(&host.place(), None).expect("stopped");
    let is_open = || std::net::TcpStream::connect(host.address("https")).is_ok();
    eventually("nobody listens any more", || !is_open());
}

#[test]
fn a_certificate_that_changes_is_taken_without_a_restart() {
    let host = Host::new();
    let one = target(&host, "one", &["a.test"]);
    host.release(&one, &Slug::new("one")).up();
    assert_eq!(shown(&host, "a.test"), "CN = one");
    let agent = host.agent();
    // What is no certificate changes nothing.
    let old = fs::read(file(&one)).expect("a certificate");
    fs::write(file(&one), "half of a cert").expect("written");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    assert_eq!(shown(&host, "a.test"), "CN = one");
    let told = release::domains(&host.place()).expect("an answer")[0].certificate.clone().expect("it had one");
    let failure = told.failure.expect("it is told");
    assert!(failure.message.ends_with("one.crt` holds no certificate") && failure.hint.is_some(), "{failure:?}");
    assert_eq!(told.issuer.as_deref(), Some("one"), "what was read before goes on");
    fs::write(file(&one), old).expect("written");

    let Tls::Files { certificate: new, key } = certificate(host.home.path(), "new", &["a.test"]) else { panic!() };
    let Some(Tls::Files { certificate, key: old_key }) = &one.settings.tls else { panic!() };
    fs::rename(key, old_key).expect("renewed");
    fs::rename(new, certificate).expect("renewed");
    eventually("the new one is shown", || shown(&host, "a.test") == "CN = new");
    assert_eq!(host.agent(), agent);
}

#[test]
fn a_websocket_goes_over_tls() {
    let host = Host::new();
    let one = target(&host, "one", &["a.test"]);
    host.release(&one, &Slug::new("one")).up();
    let script = "import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[1])
context.set_alpn_protocols(['http/1.1'])
stream = context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[2]))), server_hostname='a.test')
stream.sendall(b'GET / HTTP/1.1\\r\\nHost: a.test\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n')
answer = b''
while b'\\r\\n\\r\\n' not in answer: answer += stream.recv(1000)
for number in range(100):
    word = b'word %d' % number
    stream.sendall(word)
    back = b''
    while len(back) < len(word): back += stream.recv(1000)
    assert back == word, back
print(answer.split(b'\\r\\n')[0].decode())
";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(file(&one))
        .arg(host.address("https").port().to_string())
        .output()
        .expect("python runs");
    assert_eq!(text(&output), "HTTP/1.1 101 Switching Protocols\n");
}

#[test]
fn a_certificate_that_cannot_be_used_is_refused_and_one_that_is_odd_is_told() {
    let host = Host::new();
    let mut one = target(&host, "one", &["a.test"]);
    let Tls::Files { key: other, .. } = certificate(host.home.path(), "other", &["a.test"]) else { panic!() };
    let Some(Tls::Files { certificate, key }) = one.settings.tls.clone() else { panic!() };
    for (certificate, key, says) in [
        (&certificate, &other, "is not that of the certificate in"),
        (&key, &key, "holds no certificate"),
        (&certificate, &certificate, "holds no private key"),
        (&host.home.path().join("none"), &key, "cannot read"),
    ] {
        one.settings.tls = Some(Tls::Files { certificate: certificate.clone(), key: key.clone() });
        let error = host.release(&one, &Slug::new("one")).refused();
        assert!(error.to_string().contains(says) && error.hint().is_some(), "{error}");
    }
    one.settings.tls = Some(Tls::Files { certificate, key });
    one.settings.domains.push("b.test".into());
    let said = host.release(&one, &Slug::new("one"));
    assert!(said.warnings.starts_with("the certificate of `b.test` is for other names\n"), "{}", said.warnings);
    said.up();

    let mut two = target(&host, "two", &["c.test"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    two.settings.https = Some(taken.local_addr().expect("an address"));
    let error = host.release(&two, &Slug::new("two")).refused();
    assert!(error.to_string().starts_with("cannot listen on `127.0.0.1:"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("`http` and `https`")), "{:?}", error.hint());
}

#[test]
fn static_files_of_a_name_of_their_own_are_served_there_or_told() {
    let host = Host::new();
    let slug = Slug { static_url: "https://static.test/", ..Slug::new("one") };
    let mut target = host.target("one");
    let said = host.release(&target, &slug);
    assert!(said.warnings.starts_with("pages ask for static files at `https://static.test/`"), "{}", said.warnings);
    said.up();
    let again = Slug { static_url: "https://static.test/", ..Slug::new("two") };
    assert_eq!(host.release(&target, &again).warnings, "", "it was told of what serves");

    target.settings.domains = vec!["a.test".into(), "Static.test".into()];
    target.settings.http = Some(host.address("http"));
    let said = host.release(&target, &slug);
    assert_eq!(said.warnings, "");
    said.up();
    let front = Target { settings: Settings { address: target.settings.http, ..Settings::default() }, ..target };
    let asked = |name: &str, path: &str| {
        let answer = request_of(&front, path, name).expect("an answer");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    };
    assert_eq!(asked("static.test", "/css/base.0123456789ab.css"), "body {}");
    assert_eq!(asked("a.test", "/css/base.0123456789ab.css"), "one", "the application answers");
    assert_eq!(asked("static.test", "/"), "one");
}
