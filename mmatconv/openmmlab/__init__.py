"""Every change that mmatconv makes to another package's behaviour, one file each: what, why and when.

Nothing here acts by being imported. Each change is put in place by the call named with its file, once however often it
is called, and names itself at debug level in the logger ``mmatconv`` (log.py).

When mmatconv and MMEngine are both imported:
    import_hook.py, ``when_imported``: an entry of ``sys.meta_path`` where mmatconv comes first, so that it need not
        import MMEngine; it goes when MMEngine has come.
    config_packages.py, ``register_config_packages``: ``MODULE2PACKAGE`` and ``Config._get_cfg_path`` of MMEngine.
        ``_base_ = 'mmatconv::...'`` is found and keeps the scope of the config that inherits; ``'mmseg::...'`` is
        found with the onedl packages.

When MMEngine's hub builds a model of ours:
    checkpoint_loader.py, ``register_published_weights``: a scheme of MMEngine's ``CheckpointLoader`` for ``mmatconv://``
        addresses, those of the weights in this package.

When a backbone is made:
    roi_align.py, ``guard_roi_align``: ``RoIAlignFunction.forward`` of mmcv, which misreads channels_last maps silently.
    padding_guard.py, ``guard_detectors``: torch's hooks of module registration, and forward hooks of neck and heads,
        where a backbone has ``mask_padding``: they do not look into the padding.

In tools/ and programs that call them:
    torch_load.py, ``guard_torch_load``: ``torch.load`` reads as data, since MMEngine falls back to code.
    checkpoint_loader.py, ``use_safe_loader``: the same for MMEngine's ``CheckpointLoader``, which also takes released
        names.
    whole_files.py, ``use_whole_files``: ``Config.dump`` and the backend of MMEngine for this machine's files, which
        write in place: a file is replaced in one step, whole whatever happens.
    grad_strides.py, ``ignore_grad_strides``: a filter of warnings, for one that DistributedDataParallel gives for every
        depthwise kernel; when a process group is joined.
    bfloat16_ops.py, ``support_bfloat16_on_cpu``: ``NMSop.forward`` and ``RoIAlign.forward`` of mmcv, which take no
        bfloat16 on the CPU; when a BFloat16OptimWrapper is made (``--amp`` without a GPU).
    visualizer.py, ``every_process_draws``: ``is_main_process`` of MMEngine, while ``--show-dir`` draws an image; then
        it is put back. MMEngine draws those of the first process only.

Reading a checkpoint puts mmatconv's list of names in the place of torch's for as long as it takes
(checkpoint/weights_only.py). What is registered under names of mmatconv's own (backbones, hooks, an optimizer wrapper
and a constructor, ``lmdb://`` files) changes nothing for others and stands where it is defined. While tools/train.py or
tools/test.py runs without ``--verbose``, engine/console/console.py stands in for ``sys.stdout``, ``sys.stderr`` and
``warnings.showwarning`` and filters what MMEngine's loggers send to the console.
"""
