//! Packages that come as sources: built in the sandbox with what they ask for, which may be sources itself.

use std::process::Command;

use pipe_tests::Project;

const PIPELINE: &str = "\
[app]
name = \"sources\"
python = \"3.11\"

[index]
find-links = [\"sdists\"]

[steps.lock]
plugin = \"python-lock\"
inputs = { project = \"source\" }

[steps.venv]
plugin = \"python-venv\"
inputs = { lock = \"lock\", project = \"source\" }
grants = { fetch = [\"index\"], exec = [\"python\"] }

[steps.use]
plugin = \"command\"
inputs = { project = \"source\", trees = \"venv\" }
config = { run = '/app/venv/bin/python -c \"import pipe_test_lib as it; assert it.VALUE == \\\"made by the tool\\\"\" && touch said', collect = \"said\", mounts = [\"/app/venv\"] }
grants = { exec = [\"sh\"] }
";

/// Backends that exist only as sources must be built first: this one says what is written into the library.
const TOOL: [(&str, &str); 2] = [
    (
        "setup.py",
        "from setuptools import setup\nsetup(name='pipe-test-tool', version='1.0', py_modules=['pipe_test_tool'])\n",
    ),
    ("pipe_test_tool.py", "VALUE = 'made by the tool'\n"),
];

const LIBRARY: [(&str, &str); 2] = [
    (
        "pyproject.toml",
        "[build-system]\nrequires = ['setuptools<69', 'wheel', 'pipe-test-tool']\nbuild-backend = 'setuptools.build_meta'\n",
    ),
    (
        "setup.py",
        "from setuptools import setup\nimport pipe_test_tool\n\
         with open('pipe_test_lib.py', 'w') as module:\n    module.write(f'VALUE = {pipe_test_tool.VALUE!r}\\n')\n\
         setup(name='pipe-test-lib', version='1.0', py_modules=['pipe_test_lib'])\n",
    ),
];

/// Packs a source distribution into the project.
fn sdist(project: &Project, name: &str, files: &[(&str, &str)]) {
    for (path, text) in files {
        project.write(&format!("unpacked/{name}-1.0/{path}"), text);
    }
    let metadata = format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n");
    project.write(&format!("unpacked/{name}-1.0/PKG-INFO"), &metadata);
    std::fs::create_dir_all(project.path().join("sdists")).expect("a directory");
    let archive = project.path().join(format!("sdists/{name}-1.0.tar.gz"));
    let packed = Command::new("tar")
        .args(["-czf".as_ref(), archive.as_os_str(), format!("{name}-1.0").as_ref()])
        .current_dir(project.path().join("unpacked"))
        .status();
    assert!(packed.expect("tar runs").success());
}

#[test]
fn what_a_build_needs_is_built_where_it_has_no_wheel() {
    let project = Project::new().pipeline(PIPELINE).file("requirements.txt", "pipe-test-lib==1.0\n");
    sdist(&project, "pipe_test_tool", &TOOL);
    sdist(&project, "pipe_test_lib", &LIBRARY);
    let said = project.run(["run", "--no-release", "--json"]).success();
    assert_eq!(said.steps("ran"), ["lock", "use", "venv"]);
    let lock = std::fs::read_to_string(project.path().join("pipe.lock")).expect("what was pinned");
    assert!(lock.contains("pipe_test_tool-1.0.tar.gz"), "{lock}");
}

/// Packs a wheel of one module, which another wheel has too.
fn wheel(project: &Project, name: &str) {
    let info = format!("{name}-1.0.dist-info");
    for (path, text) in [
        ("shared.py".to_owned(), format!("OF = '{name}'\n")),
        (format!("{info}/METADATA"), format!("Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")),
        (format!("{info}/WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n".to_owned()),
        (format!("{info}/RECORD"), format!("shared.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")),
    ] {
        project.write(&format!("unpacked/{name}/{path}"), &text);
    }
    std::fs::create_dir_all(project.path().join("sdists")).expect("a directory");
    let file = project.path().join(format!("sdists/{name}-1.0-py3-none-any.whl"));
    let packed = Command::new("python3")
        .args(["-m", "zipfile", "-c"])
        .arg(file)
        .args(["shared.py", &info])
        .current_dir(project.path().join(format!("unpacked/{name}")))
        .status();
    assert!(packed.expect("python runs").success());
}

#[test]
fn of_two_packages_with_one_file_both_are_named() {
    let (pipeline, _) = PIPELINE.split_once("\n[steps.use]").expect("a step");
    let project = Project::new().pipeline(pipeline).file("requirements.txt", "pipe-test-a==1.0\npipe-test-b==1.0\n");
    wheel(&project, "pipe_test_a");
    wheel(&project, "pipe_test_b");
    let said = project.run(["run", "--no-release", "--json"]).success();
    assert!(said.stdout.contains("pipe-test-a and pipe-test-b: both sides hold a different `"), "{}", said.stdout);
}
