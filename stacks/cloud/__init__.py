"""A DataJoint pipeline's servers on AWS; every module is one component and reads alone."""
