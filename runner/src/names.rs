//! Where a `pipe` that carries its C library looks up users and hosts. By itself that loads what `/etc/nsswitch.conf` names:
//! libraries of the machine, made for the C library there, which end it or know nothing.

/// Looks names up in files, and hosts in DNS too, for which nothing has to be loaded. Called while there is one thread.
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub(crate) fn load_nothing() {
    #[expect(unsafe_code, reason = "a function of the C library that nobody wraps")]
    unsafe extern "C" {
        fn __nss_configure_lookup(database: *const libc::c_char, services: *const libc::c_char) -> libc::c_int;
    }
    let files = [c"passwd", c"group", c"initgroups", c"services", c"protocols", c"networks"];
    let databases = files.into_iter().map(|database| (database, c"files")).chain([(c"hosts", c"files dns")]);
    for (database, services) in databases {
        #[expect(unsafe_code, reason = "see above")]
        // SAFETY: two texts that end with a NUL, which are copied. One that is not known changes nothing.
        unsafe {
            __nss_configure_lookup(database.as_ptr(), services.as_ptr());
        }
    }
}

/// The machine's C library knows what it loads.
#[cfg(not(all(target_env = "gnu", target_feature = "crt-static")))]
pub(crate) const fn load_nothing() {}
