mod facts;
mod naive;
mod paths;
mod random;
