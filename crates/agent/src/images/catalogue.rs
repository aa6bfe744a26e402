//! Which image means which program.
//!
//! Words combine as with a real image: a container's `command` takes the place of the image's entry point and its arguments, a
//! container's `args` that of the arguments alone.

use super::Program;
use crate::runtime::RuntimeError;

/// What stands in for an image.
struct Image {
    /// Without registry and tag.
    names: &'static [&'static str],
    start: Start,
}

enum Start {
    /// A program of ours that understands the arguments of the image's.
    BuiltIn(&'static str),
    /// A program of ours, always with these arguments: those of the image's would mean nothing to it.
    Fixed(&'static [&'static str]),
    /// Programs of the host: the entry point, and what it is given without `args`.
    Host(&'static [&'static str], &'static [&'static str]),
}

const CATALOGUE: &[Image] = &[
    Image { names: &["switchyard/echo"], start: Start::BuiltIn("echo") },
    Image { names: &["switchyard/tcp-udp-echo"], start: Start::BuiltIn("tcp-udp-echo") },
    Image {
        names: &["echoserver", "kicbase/echo-server", "google-samples/hello-app"],
        start: Start::Fixed(&["echo", "8080"]),
    },
    Image {
        names: &["nginx", "httpd", "traefik/whoami", "nginxdemos/hello", "ealen/echo-server"],
        start: Start::Fixed(&["echo", "80"]),
    },
    Image { names: &["hashicorp/http-echo"], start: Start::BuiltIn("http-echo") },
    Image { names: &["e2e-test-images/agnhost"], start: Start::BuiltIn("agnhost") },
    Image { names: &["mysql", "mariadb"], start: Start::Fixed(&["mysql"]) },
    Image { names: &["pause"], start: Start::Fixed(&["pause"]) },
    Image {
        names: &["busybox", "alpine", "debian", "ubuntu", "nicolaka/netshoot"],
        start: Start::Host(&[], &["sh"]),
    },
    Image { names: &["curlimages/curl"], start: Start::Host(&["curl"], &["--help"]) },
];

/// The program of a container.
///
/// # Errors
/// If the image is not known and there is no command.
pub(crate) fn program(image: &str, command: &[String], args: &[String]) -> Result<Program, RuntimeError> {
    if !command.is_empty() {
        return Ok(Program::Host([command, args].concat()));
    }
    let name = name(image);
    let Some(found) = CATALOGUE.iter().find(|known| known.names.contains(&name)) else {
        return Err(RuntimeError::UnknownImage { image: image.to_owned(), known: known() });
    };
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Ok(match found.start {
        Start::BuiltIn(program) => Program::BuiltIn([owned(&[program]).as_slice(), args].concat()),
        Start::Fixed(words) => Program::BuiltIn(owned(words)),
        Start::Host(entry, _) if !args.is_empty() => Program::Host([owned(entry).as_slice(), args].concat()),
        Start::Host(entry, arguments) => Program::Host(owned(&[entry, arguments].concat())),
    })
}

/// An image's name without registry, tag and digest, and without `library/`, where Docker Hub keeps its own.
fn name(image: &str) -> &str {
    let image = image.split_once('@').map_or(image, |(image, _)| image);
    // A colon before a slash is that of the registry's port.
    let image = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => image,
    };
    let path = match image.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => path,
        _ => image,
    };
    path.rsplit_once("library/").map_or(path, |(_, name)| name)
}

fn known() -> String {
    CATALOGUE.iter().flat_map(|image| image.names).copied().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn host(text: &str) -> Program {
        Program::Host(words(text))
    }

    fn built_in(text: &str) -> Program {
        Program::BuiltIn(words(text))
    }

    #[test]
    fn registries_and_tags_do_not_matter() {
        for image in [
            "nginx",
            "nginx:1.29-alpine",
            "docker.io/library/nginx:latest",
            "localhost:5000/nginx",
            "registry.example.com:443/library/nginx:1@sha256:00",
            "public.ecr.aws/docker/library/nginx",
        ] {
            assert_eq!(program(image, &[], &[]).unwrap(), built_in("echo 80"), "{image}");
        }
        for image in ["nginx-ingress", "mine/nginx", "example.com/mine/nginx", ""] {
            assert!(program(image, &[], &[]).is_err(), "{image}");
        }
    }

    #[test]
    fn commands_and_arguments_combine_as_with_a_real_image() {
        let run = |image, command, args| program(image, &words(command), &words(args)).unwrap();
        assert_eq!(run("switchyard/echo", "", "9000"), built_in("echo 9000"));
        assert_eq!(run("switchyard/echo", "sleep 1", ""), host("sleep 1"));
        assert_eq!(run("switchyard/echo", "sleep", "1"), host("sleep 1"));
        assert_eq!(run("busybox", "", ""), host("sh"));
        assert_eq!(run("busybox", "", "sleep 1"), host("sleep 1"));
        assert_eq!(run("curlimages/curl", "", "-s http://db"), host("curl -s http://db"));
        assert_eq!(run("nginx", "", "-g daemon-off"), built_in("echo 80"));
        assert_eq!(run("nobody/knows", "sleep", ""), host("sleep"));
        assert_eq!(run("registry.k8s.io/pause:3.10", "", ""), built_in("pause"));
    }

    #[test]
    fn an_unknown_image_without_a_command_is_told_what_there_is() {
        let error = program("nobody/knows:1", &[], &words("an argument")).unwrap_err().to_string();
        assert!(error.contains("nobody/knows:1") && error.contains("switchyard/echo"), "{error}");
    }
}
