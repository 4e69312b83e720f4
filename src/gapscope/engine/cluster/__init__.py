"""A study on a cluster: DVC runs here, on the controller, and the stages' commands run on other machines.

DVC starts a stage as `$SHELL -c COMMAND`. On a cluster SHELL names a small program (`shell`) that hands the command to
the controller and waits. The controller (`controller`) makes a folder for it (`jobs`) and gives it to a launcher
(`sbatch`, `dask_launcher`). On the worker, an attempt (`attempt`) runs the command in a folder of its own
(`workfolder`). When the newest attempt has ended, the controller moves its outputs into place. An attempt that was
given up, but still runs, can only write into its own folder. That is why it changes nothing, however late it ends.

`cmd` in dvc.yaml stays as it is, and workers never run DVC. So a study that moves to a cluster, or back, has nothing
stale. All machines see the folder of the study under the same path, or they meet in a DVC remote (`remote`). Then the
controller (`relay`) and the worker (`away`) each keep a job's folder, and tell each other what is in it.
"""
