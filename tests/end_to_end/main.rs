//! What `pipe` promises, tried from the outside. One binary, so that it links once.

mod approvals;
mod attacks;
mod branches;
mod browsers;
mod caching;
mod canaries;
mod command_line;
mod differences;
mod domains;
mod example;
mod faults;
mod front_end;
mod interrupts;
mod limits;
mod other_machines;
mod people;
mod pipelines_that_are_refused;
mod restarts;
mod secrets;
mod seen;
mod small;
mod sources;
mod steps;
mod systemd;
mod updates;
mod upgrades;
