"""What UNet2DModels are on the Hub: the four families of numerics.md B1, and a tiny one."""

CIFAR10 = {
    "sample_size": 32,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "downsample_padding": 0,
    "attention_head_dim": None,
    "norm_eps": 1e-6,
}
DEEP = {
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*["DownBlock2D"] * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *["UpBlock2D"] * 4),
}
CELEBAHQ = {
    **CIFAR10,
    **DEEP,
    "sample_size": 256,
}
TRAIN_UNCONDITIONAL = {**DEEP, "sample_size": 64}
COURSE = {
    "sample_size": 32,
    "block_out_channels": (64, 128, 128, 256),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
}
FAMILIES = {  # and their parameters
    "cifar10": (CIFAR10, 35_746_307),
    "celebahq-256": (CELEBAHQ, 113_673_219),
    "train_unconditional": (TRAIN_UNCONDITIONAL, 113_673_219),
    "course": (COURSE, 18_536_323),
}
TINY = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
ATTENDING = {
    "down_block_types": ("AttnDownBlock2D",) * 2,
    "up_block_types": ("AttnUpBlock2D",) * 2,
}
ODD = {  # changes of TINY: what configs of strangers may say
    "one head": {"attention_head_dim": None},
    "heads that leave channels over": {"attention_head_dim": 3},
    "one channel per head": {"attention_head_dim": 1},
    "a learned variance of four channels": {"in_channels": 4, "out_channels": 8},
    "three layers": {"layers_per_block": 3},
    "one level": {
        "block_out_channels": (8,),
        "down_block_types": ("AttnDownBlock2D",),
        "up_block_types": ("UpBlock2D",),
    },
    "three levels": {
        "block_out_channels": (4, 8, 12),
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D"),
    },
    "an odd width": {
        "block_out_channels": (9, 6), "norm_num_groups": 3, "attention_head_dim": 2,
    },
    "TensorFlow's padding and time": {
        "downsample_padding": 0, "freq_shift": 1, "flip_sin_to_cos": False,
    },
    "resnets that resize": {"downsample_type": "resnet", "upsample_type": "resnet", **ATTENDING},
    "blocks of ADM": {
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("ResnetUpsampleBlock2D", "UpBlock2D"),
        "resnet_time_scale_shift": "scale_shift",
    },
    "scale and shift with a norm": {
        "resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 2,
    },
    "names of 2022": {"down_block_types": ("UNetResDownBlock2D", "UNetResAttnDownBlock2D")},
    "no attention in the middle": {"add_attention": False},
    "no middle": {"mid_block_type": None},
    "a scaled middle": {"mid_block_scale_factor": 1.414},
    "a centred input": {"center_input_sample": True},
    "a wide time": {"time_embedding_dim": 40},
    "mish": {"act_fn": "mish"},
    "gelu": {"act_fn": "gelu"},
    "relu": {"act_fn": "relu"},
    "swish": {"act_fn": "swish"},
}  # fmt: skip
